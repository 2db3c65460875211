"""A run that no longer gets better ends, at the same step whatever happened to it on the way."""

import json
import signal
from pathlib import Path

import pytest

from tests.conftest import conversation
from tests.multiprocess.driven import DrivenRun, finish, start
from tests.multiprocess.runs import Run, call, traced_settings

STEPS = 60
EVERY, PATIENCE = 4, 3


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    """It learns its rows by heart, so that what it says of others soon gets worse."""
    others = module_runs / "others.jsonl"
    rows = [conversation(f"{n} {n} why", "so answer " * (n % 5 + 1)) for n in range(8)]
    others.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        *traced_settings(module_runs, STEPS),
        f"data.validation={others}",
        f"eval.every_steps={EVERY}",
        f"eval.patience={PATIENCE}",
        "optim.lr=0.02",
        "optim.warmup_steps=0",
        "optim.schedule=constant",
        "checkpoint.every_steps=5",
    )


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> DrivenRun:
    return finish(*settings, "name=unbroken", f"runs_dir={module_runs}")


def validations(run: Run) -> dict[int, tuple[float, bool]]:
    return {row["step"]: (row["loss"], row["best"]) for row in run.events if row["event"] == "validation"}


def test_it_ends_with_a_reason_and_the_best_model(unbroken: Run):
    found = validations(unbroken)
    end, best = unbroken.result["step"], unbroken.result["best"]["step"]
    assert end == best + PATIENCE * EVERY < STEPS
    assert max(found) == end
    assert not any(better for step, (_, better) in found.items() if step > best)
    why = f"no improvement in the last {PATIENCE} validations; best at step {best} (eval.patience)"
    assert unbroken.result["ended_early"] == why
    assert unbroken.result["outcome"] == "COMPLETED"
    assert unbroken.result["evaluated_step"] == best
    assert (unbroken.dir.export / "model.safetensors").exists()
    assert (unbroken.status.state, unbroken.status.why) == ("COMPLETED", f"ended early: {why}")
    shown = " ".join(call("results", str(unbroken.dir.root)).stdout.split())
    assert f"Ended early at step {end}: {why}." in shown


def test_stopped_and_killed_on_the_way_it_ends_at_the_same_step(settings: tuple[str, ...], unbroken: Run):
    """Stopped after the first validation that is no better, killed after the second."""
    best = unbroken.result["best"]["step"]
    stop, kill = best + EVERY + 2, best + 2 * EVERY + 2
    run = start(*settings, "name=broken", until=stop)
    run.stopped()
    run.begin_next(faults=f"kill9@forward:rank=1:step={kill}:attempt=2")
    assert -signal.SIGKILL in run.ended()
    run.start_again().completed()
    assert [row["step"] for row in run.events if row["event"] == "preempted"] == [stop]
    assert run.trace() == unbroken.trace()
    assert run.curve() == unbroken.curve()
    assert validations(run) == validations(unbroken)
    same = ("step", "best", "ended_early", "evaluated_step", "samples")
    assert {key: run.result[key] for key in same} == {key: unbroken.result[key] for key in same}


def test_more_patience_is_what_makes_it_go_on(unbroken: DrivenRun):
    """Comes last: the shared run is made longer."""
    end = unbroken.result["step"]
    refused = call("resume", str(unbroken.dir.root), "train.max_steps=100")
    assert refused.returncode == 2
    assert "would end at the same step again" in " ".join(refused.stderr.split())
    assert unbroken.result["step"] == end
    unbroken.go_on(f"eval.patience={PATIENCE + 1}")
    assert unbroken.result["step"] >= end + EVERY

"""Stopped, killed or damaged: what comes back is the unbroken run, sample for sample and bit for bit."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.multiprocess import driven
from tests.multiprocess.runs import ROWS, Run, command, start, traced_settings
from train.rundir import read_lines

STEPS = 60


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    """Slow enough to be caught in the middle."""
    return (*traced_settings(module_runs, STEPS), "train.micro_batch_size=2", "checkpoint.every_steps=10")


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> Run:
    return driven.finish(*settings, "name=unbroken", f"runs_dir={module_runs}")


def assert_equal_runs(run: Run, unbroken: Run) -> None:
    assert run.status.state == "COMPLETED"
    assert run.trace() == unbroken.trace()
    assert run.curve() == unbroken.curve()


def test_the_unbroken_run_sees_every_row_equally_often(unbroken: Run):
    assert len(unbroken.trace()) == STEPS
    ids = [row for _, batch in unbroken.trace() for row in batch]
    for epoch in range(10):
        assert sorted(ids[epoch * ROWS : (epoch + 1) * ROWS]) == list(range(ROWS))


def test_dropout_is_on_from_the_first_step(unbroken: Run):
    """Each step draws from a generator of its own; an undrawn one would give these first numbers."""
    drawn = [row["random"] for row in read_lines(unbroken.dir.trace)]
    undrawn = []
    for step in range(1, STEPS + 1):
        torch.manual_seed(step * 65_537)
        undrawn.append(float(torch.rand(())))
    assert not set(drawn) & set(undrawn)


def test_stopped_twice_and_resumed_twice(settings: tuple[str, ...], unbroken: Run):
    """By either signal on either rank. `latest` is emptied once and lost once: it decides nothing."""
    run = driven.start(*settings, "name=twice")
    run.wait_for_step(7)
    assert run.stop(signal.SIGTERM, rank=1).why.startswith("stopped by SIGTERM after step")
    first_stop = run.status.step
    (run.dir.checkpoints / "latest").write_text("")
    run.begin_next()
    run.wait_for_step(first_stop + 15)
    assert run.stop(signal.SIGUSR2, rank=0).why.startswith("stopped by SIGUSR2 after step")
    assert run.status.step > first_stop
    (run.dir.checkpoints / "latest").unlink()
    run.go_on()
    assert run.status.attempt == 3
    stops, returns = (
        [row["step"] for row in run.events if row["event"] == kind] for kind in ("preempted", "resumed")
    )
    assert stops == returns
    steps = [row["step"] for row in read_lines(run.dir.metrics)]
    assert steps == list(range(1, STEPS + 1)), "a step was trained twice or not at all"
    assert_equal_runs(run, unbroken)


@pytest.fixture(scope="module")
def torn(settings: tuple[str, ...], module_runs: Path) -> Run:
    """Its agent killed, its newest checkpoint torn, resumed to the end."""
    run = start(*settings, "name=torn", f"runs_dir={module_runs}")
    run.wait_for_step(27)
    ranks = run.ranks()
    run.agent().kill()
    for rank in ranks:
        rank.wait(timeout=60)
    status = run.wait_for("FAILED") if run.status.state != "FAILED" else run.status
    assert "run: shardline resume" in status.why
    newest = run.dir.checkpoints / (run.dir.checkpoints / "latest").read_text().strip()
    next(newest.glob("shards/*rank_1*optim_states.pt")).write_bytes(b"torn")
    return run.resume()


def test_a_killed_agent_takes_its_ranks_along_and_resume_goes_on(torn: Run, unbroken: Run):
    """From the checkpoint before the torn one. `test_restoring.py` has every other kind of damage."""
    skipped = next(row for row in torn.events if row["event"] == "skipped_checkpoints")
    [resumed] = [row for row in torn.events if row["event"] == "resumed"]
    assert skipped["reason"].startswith(f"step_{resumed['step'] + 10}: ")
    assert "bytes instead of" in skipped["reason"]
    assert_equal_runs(torn, unbroken)


def test_without_any_checkpoint_left_nothing_starts_over(torn: Run):
    """Uses the run up: it comes after the others that look at it."""
    for path in torn.dir.checkpoints.glob("step_*"):
        shutil.rmtree(path)
    done = command("resume", str(torn.dir.root), f"train.max_steps={STEPS + 10}", "--follow")
    assert done.returncode == 94
    assert "no usable checkpoint" in done.stdout
    assert torn.status.state == "FAILED"
    assert [row["step"] for row in read_lines(torn.dir.metrics)][-1] == STEPS


def test_keep_last_and_best_are_what_remains(runs: Path):
    run = driven.finish(
        "experiment=smoke",
        "train.precision=fp32",
        "checkpoint.every_steps=2",
        "checkpoint.keep_last=2",
        "eval.every_steps=4",
        "optim.lr=0.5",
    )
    kept = {path.name for path in run.dir.checkpoints.glob("step_*")}
    best = (run.dir.checkpoints / "best").read_text().strip()
    assert kept == {"step_18", "step_20", best}
    assert run.result["evaluated_step"] == int(best.removeprefix("step_"))

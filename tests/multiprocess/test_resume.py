"""Stopped, killed or damaged: what comes back is the unbroken run, sample for sample and bit for bit."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.multiprocess.runs import ROWS, Run, command, finish, start, traced_settings
from train.rundir import read_lines

STEPS = 60


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    """Slow enough to be caught in the middle."""
    return (*traced_settings(module_runs, STEPS), "train.micro_batch_size=2", "checkpoint.every_steps=10")


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> Run:
    return finish(*settings, "name=unbroken", f"runs_dir={module_runs}")


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_stopped_twice_and_resumed_twice(settings: tuple[str, ...], unbroken: Run, number: signal.Signals):
    """The pointer to the newest checkpoint is emptied once and lost once: it decides nothing."""
    run = start(*settings, f"name=twice-{number.name.lower()}")
    run.wait_for_step(7)
    assert run.stop(number, rank=1).why.startswith(f"stopped by {number.name} after step")
    first_stop = run.status.step
    (run.dir.checkpoints / "latest").write_text("")
    again = command("resume", str(run.dir.root), "--json")
    assert again.returncode == 0
    run.wait_for_step(first_stop + 15)
    run.stop(number, rank=0)
    assert run.status.step > first_stop
    (run.dir.checkpoints / "latest").unlink()
    run.resume()
    assert run.status.attempt == 3
    assert_equal_runs(run, unbroken)


def test_a_stop_loses_no_step(settings: tuple[str, ...]):
    run = start(*settings, "name=nothing-lost")
    run.wait_for_step(3)
    run.stop()
    stopped = next(row for row in run.events if row["event"] == "preempted")
    run.resume()
    resumed = next(row for row in run.events if row["event"] == "resumed")
    assert resumed["step"] == stopped["step"]
    steps = [row["step"] for row in read_lines(run.dir.metrics)]
    assert steps == list(range(1, STEPS + 1)), "a step was trained twice or not at all"


def test_a_killed_rank_trains_again_in_the_same_job(settings: tuple[str, ...], unbroken: Run):
    run = start(*settings, "name=killed-rank")
    job_id = run.status.job_id
    run.wait_for_step(15)
    run.ranks()[1].kill()
    run.wait_for("COMPLETED")
    assert (run.status.job_id, run.status.attempt, run.status.restarts) == (job_id, 1, 1)
    crash = next(row for row in run.events if row["event"] == "crashed")
    assert crash["reason"] == "rank 1 was killed by SIGKILL"
    assert_equal_runs(run, unbroken)


def test_a_killed_agent_takes_its_ranks_along_and_resume_goes_on(settings: tuple[str, ...], unbroken: Run):
    run = start(*settings, "name=killed-agent")
    run.wait_for_step(15)
    ranks = run.ranks()
    run.agent().kill()
    for rank in ranks:
        rank.wait(timeout=10)
    status = run.wait_for("FAILED") if run.status.state != "FAILED" else run.status
    assert "resume goes on" in status.why
    run.resume()
    assert_equal_runs(run, unbroken)


def stopped_run(settings: tuple[str, ...], name: str) -> Run:
    run = start(*settings, f"name={name}")
    run.wait_for_step(25)
    run.stop()
    return run


def test_a_torn_checkpoint_is_skipped_with_its_reason(settings: tuple[str, ...], unbroken: Run):
    """`latest` points to it; `test_restoring.py` has every other kind of damage."""
    run = stopped_run(settings, "torn")
    newest = run.dir.checkpoints / f"step_{run.status.step}"
    next(newest.glob("shards/*rank_1*optim_states.pt")).write_bytes(b"torn")
    run.resume()
    skipped = next(row for row in run.events if row["event"] == "skipped_checkpoints")
    assert skipped["why"][0].startswith(f"{newest.name}: ")
    assert "bytes instead of" in skipped["why"][0]
    assert_equal_runs(run, unbroken)


def test_without_any_checkpoint_left_nothing_starts_over(settings: tuple[str, ...]):
    run = stopped_run(settings, "all-gone")
    for path in run.dir.checkpoints.glob("step_*"):
        shutil.rmtree(path)
    done = command("resume", str(run.dir.root), "--follow")
    assert done.returncode == 94
    assert "no usable checkpoint remains" in done.stdout
    assert run.status.state == "FAILED"
    assert [row["step"] for row in read_lines(run.dir.metrics)][-1] > 1


def test_keep_last_and_best_are_what_remains(runs: Path):
    run = finish(
        "experiment=smoke",
        "checkpoint.every_steps=2",
        "checkpoint.keep_last=2",
        "eval.every_steps=4",
        "optim.lr=0.5",
    )
    kept = {path.name for path in run.dir.checkpoints.glob("step_*")}
    best = (run.dir.checkpoints / "best").read_text().strip()
    assert kept == {"step_18", "step_20", best}
    assert run.result["evaluated_step"] == int(best.removeprefix("step_"))

"""Whatever the scheduler or a fault does to a job, the run ends as the unbroken one, sample for sample."""

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.slurm import ClusterRun, assert_equal_runs, bring_back, nothing_left, occupy, slurm, submit

pytestmark = pytest.mark.usefixtures("cluster")


def broken(settings: tuple[str, ...], name: str, *more: str) -> ClusterRun:
    """A run in the middle of its training."""
    run = submit(*settings, f"name={name}", *more)
    run.wait_for_step(30)
    return run


SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _nothing_in_shared_memory(cluster: object):
    before = set(SHARED_MEMORY.iterdir())
    yield
    assert set(SHARED_MEMORY.iterdir()) <= before


def went_on(run: ClusterRun, unbroken: ClusterRun, attempts: int) -> None:
    run.completed()
    assert_equal_runs(run, unbroken)
    assert run.status.attempt == attempts
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)


def test_preempted_by_a_higher_partition(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "preempted")
    job_id = run.job_id
    occupy(run.status.nodes or "")
    went_on(run, unbroken, attempts=2)
    stop = next(row for row in run.events if row["event"] == "preempted")
    resumed = next(row for row in run.events if row["event"] == "resumed")
    assert (stop["reason"], resumed["step"]) == ("SIGTERM", stop["step"])
    assert run.job_id == job_id


def test_requeued_by_an_administrator(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "requeued")
    slurm("scontrol", "requeue", run.job_id)
    went_on(run, unbroken, attempts=2)


def test_a_node_goes_down(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "node-down")
    node = run.status.nodes or ""
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        went_on(run, unbroken, attempts=2)
    finally:
        bring_back(node)
    assert run.status.attempts[0].nodes == node


def test_usr2_to_one_rank(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "usr2")
    run.ranks()[1].send_signal(signal.SIGUSR2)
    went_on(run, unbroken, attempts=2)
    assert run.status.attempts[0].ended.startswith("stopped by SIGUSR2 after step")


def test_a_killed_rank_needs_no_queue(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "rank-killed")
    killed_at = time.time()
    run.ranks()[1].kill()
    went_on(run, unbroken, attempts=1)
    again = next(
        row
        for row in run.events
        if row["event"] == "phase" and row["phase"] == "train" and row["time"] > killed_at
    )
    assert run.status.restarts == 1
    print(f"training again after {again['time'] - killed_at:.1f} s")


def test_a_killed_agent(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "agent-killed")
    [agent] = run.agents()
    agent.kill()
    went_on(run, unbroken, attempts=2)


def test_a_killed_srun(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "srun-killed")
    run.srun().kill()
    went_on(run, unbroken, attempts=2)


def test_a_stopped_rank_is_found_and_the_ranks_start_again(settings: tuple[str, ...], unbroken: ClusterRun):
    run = broken(settings, "hang", "train.hang_timeout_s=5")
    run.ranks()[1].suspend()
    went_on(run, unbroken, attempts=1)
    crash = next(row for row in run.events if row["event"] == "crashed")
    node = run.status.attempts[0].nodes
    assert (crash["failure_class"], crash["rank"], crash["host"]) == ("hang", 1, node)
    assert crash["reason"].startswith(f"rank 1 on {node} was silent for")
    assert "it was stopped by a signal" in crash["reason"]
    for rank in (0, 1):
        log = (run.dir.attempt_logs(1) / f"rank_{rank}.log").read_text()
        assert "most recent call first" in log, f"no stack of rank {rank}"


def test_scancel_saves_and_nothing_follows(settings: tuple[str, ...]):
    run = broken(settings, "scancelled")
    slurm("scancel", run.job_id)
    run.wait_for("CANCELLED")
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)
    stop = next(row for row in run.events if row["event"] == "preempted")
    saved = [row["step"] for row in run.events if row["event"] == "checkpoint"]
    assert stop["step"] in saved
    assert run.status.why == "cancelled in Slurm"

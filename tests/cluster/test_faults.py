"""Whatever the scheduler or a fault does to a job, the run ends as the unbroken one, sample for sample."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.slurm import ClusterRun, assert_equal_runs, bring_back, nothing_left, occupy, slurm, submit
from tests.multiprocess.runs import Run

pytestmark = pytest.mark.usefixtures("cluster")


def broken(settings: tuple[str, ...], name: str, *more: str) -> ClusterRun:
    """A run in the middle of its training."""
    run = submit(*settings, f"name={name}", *more)
    run.wait_for_step(15)
    return run


def disturbed(run: ClusterRun, *disturb: Callable[[ClusterRun], None]) -> None:
    """Once in each attempt, with a checkpoint of the attempt's own before it."""
    for attempt, one in enumerate(disturb, start=1):
        step = 15 + 20 * (attempt - 1)
        run.wait_for_attempt(attempt, step)
        one(run)


SHARED_MEMORY = Path("/dev/shm")


def shared_tensors() -> set[Path]:
    """What libraries share between ranks; semaphores come and go with the tests of other workers."""
    return {path for path in SHARED_MEMORY.iterdir() if not path.name.startswith("sem.")}


@pytest.fixture(autouse=True)
def _nothing_in_shared_memory(cluster: object):
    before = shared_tensors()
    yield
    assert shared_tensors() <= before


def went_on(run: ClusterRun, unbroken: Run, attempts: int) -> None:
    run.completed()
    assert_equal_runs(run, unbroken)
    assert run.status.attempt == attempts
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)


def preempt(run: ClusterRun) -> None:
    occupy(run.status.nodes or "")


def requeue(run: ClusterRun) -> None:
    slurm("scontrol", "requeue", run.job_id)


def usr2_to_one_rank(run: ClusterRun) -> None:
    run.ranks()[1].send_signal(signal.SIGUSR2)


def test_asked_to_stop_it_saves_and_goes_on_at_that_step(settings: tuple[str, ...], unbroken: Run):
    """For a job of a higher partition, for an administrator, and by a signal to one rank."""
    run = broken(settings, "asked")
    job_id = run.job_id
    disturbed(run, preempt, requeue, usr2_to_one_rank)
    went_on(run, unbroken, attempts=4)
    stops = [row for row in run.events if row["event"] == "preempted"]
    returns = [row["step"] for row in run.events if row["event"] == "resumed"]
    assert [stop["reason"] for stop in stops] == ["SIGTERM", "SIGTERM", "SIGUSR2"]
    assert [stop["step"] for stop in stops] == returns
    assert run.job_id == job_id


def kill_agent(run: ClusterRun) -> None:
    [agent] = run.agents()
    agent.kill()


def kill_srun(run: ClusterRun) -> None:
    run.srun().kill()


def test_without_a_warning_it_goes_on_from_the_newest_checkpoint(settings: tuple[str, ...], unbroken: Run):
    """The node goes down, the agent dies, srun dies."""
    run = broken(settings, "unwarned")
    node = run.status.nodes or ""

    def take_the_node(run: ClusterRun) -> None:
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    try:
        disturbed(run, take_the_node, kill_agent, kill_srun)
        went_on(run, unbroken, attempts=4)
    finally:
        bring_back(node)
    assert run.status.attempts[0].nodes == node


def test_a_rank_that_dies_or_hangs_needs_no_queue(settings: tuple[str, ...], unbroken: Run):
    """Killed, and stopped by a signal later: each time the ranks start again where they are."""
    run = broken(settings, "ranks", "train.hang_timeout_s=5")
    killed_after = run.last_step()
    run.ranks()[1].kill()
    run.wait(lambda: "resumed" in run.kinds(), "new ranks")
    run.wait_for_step(killed_after + 10)
    run.ranks()[1].suspend()
    went_on(run, unbroken, attempts=1)
    assert run.status.restarts == 2
    death, hang = (row for row in run.events if row["event"] == "crashed")
    node = run.status.attempts[0].nodes
    assert death["reason"] == "rank 1 was killed by SIGKILL"
    assert (hang["failure_class"], hang["rank"], hang["host"]) == ("hang", 1, node)
    assert hang["reason"].startswith(f"rank 1 on {node} sent no heartbeat for")
    assert "it was stopped by a signal" in hang["reason"]
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

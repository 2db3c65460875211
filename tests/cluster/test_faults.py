"""Whatever the scheduler or a fault does to a job, the run ends as the unbroken one, sample for sample."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import ClusterRun, assert_equal_runs, bring_back, nothing_left, occupy, slurm, submit
from tests.multiprocess.runs import Run

pytestmark = pytest.mark.usefixtures("cluster")


SHARED_MEMORY = Path("/dev/shm")


def shared_tensors() -> set[Path]:
    """What libraries share between ranks; semaphores come and go with the tests of other workers."""
    return {path for path in SHARED_MEMORY.iterdir() if not path.name.startswith("sem.")}


@pytest.fixture(scope="module", autouse=True)
def _nothing_in_shared_memory(cluster: object) -> Iterator[None]:
    before = shared_tensors()
    yield
    deadline = time.monotonic() + 60
    # The ranks of other tests may be sharing something just now.
    while (left := shared_tensors() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


STEPS_APART = 16
"""Each attempt trains so many steps before the next disturbance, which makes a checkpoint of its own."""


def kill_a_rank(run: ClusterRun) -> None:
    killed_after = run.last_step()
    run.ranks()[1].kill()
    run.wait(lambda: "resumed" in run.kinds(), "new ranks")
    run.wait_for_step(killed_after + 2)


def suspend_a_rank(run: ClusterRun) -> None:
    before = len([row for row in run.events if row["event"] == "start"])
    run.ranks()[1].suspend()
    run.wait(lambda: len([row for row in run.events if row["event"] == "start"]) > before, "new ranks")


def preempt(run: ClusterRun) -> None:
    occupy(run.status.nodes or "")


def requeue(run: ClusterRun) -> None:
    slurm("scontrol", "requeue", run.job_id)


def usr2_to_one_rank(run: ClusterRun) -> None:
    run.ranks()[1].send_signal(signal.SIGUSR2)


def take_the_node(run: ClusterRun) -> None:
    slurm("scontrol", "update", f"nodename={run.status.nodes}", "state=down", "reason=test")


def kill_agent(run: ClusterRun) -> None:
    [agent] = run.agents()
    agent.kill()


def kill_srun(run: ClusterRun) -> None:
    run.srun().kill()


@pytest.fixture(scope="module")
def disturbed(
    settings: tuple[str, ...], cluster: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterRun]:
    """One run, finished, that all of this happened to, an attempt after the other."""
    folder = tmp_path_factory.mktemp("runs")
    run = submit(*settings, "name=disturbed", "train.hang_timeout_s=8", f"runs_dir={folder}")
    run.wait_for_step(12)
    kill_a_rank(run)
    suspend_a_rank(run)
    nodes = set[str]()
    try:
        for attempt, disturb in enumerate((*ASKED, *UNWARNED), start=1):
            run.wait_for_attempt(attempt, STEPS_APART * attempt)
            nodes.add(run.status.nodes or "")
            disturb(run)
        yield run.completed()
    finally:
        for node in nodes:
            bring_back(node)


ASKED = (preempt, requeue, usr2_to_one_rank)
"""For a job of a higher partition, for an administrator, and by a signal to one rank."""
UNWARNED = (take_the_node, kill_agent, kill_srun)


def test_it_ends_as_the_unbroken_run_in_one_job_and_leaves_nothing(disturbed: ClusterRun, unbroken: Run):
    assert_equal_runs(disturbed, unbroken)
    assert disturbed.status.attempt == 1 + len(ASKED) + len(UNWARNED)
    assert len({row["job_id"] for row in disturbed.events if row["event"] == "attempt"}) == 1
    disturbed.wait(lambda: not nothing_left(disturbed), "no process of the run", after_the_end=True)


def test_asked_to_stop_it_saves_and_goes_on_at_that_step(disturbed: ClusterRun):
    stops = [row for row in disturbed.events if row["event"] == "preempted"]
    # Slurm also sends SIGTERM to a job whose node it takes.
    assert [stop["reason"] for stop in stops[: len(ASKED)]] == ["SIGTERM", "SIGTERM", "SIGUSR2"]
    returns = [row["step"] for row in disturbed.events if row["event"] == "resumed" and row["attempt"] > 1]
    assert [stop["step"] for stop in stops][: len(ASKED)] == returns[: len(ASKED)]


def test_without_a_warning_it_goes_on_from_the_newest_checkpoint(disturbed: ClusterRun):
    for number in range(1 + len(ASKED), 1 + len(ASKED) + len(UNWARNED)):
        rows = [row for row in disturbed.events if row.get("attempt") in (number, number + 1)]
        saved = [r["step"] for r in rows if r["event"] == "checkpoint" and r["attempt"] == number]
        [back] = [r["step"] for r in rows if r["event"] == "resumed" and r["attempt"] == number + 1]
        assert back == max(saved)


def test_a_rank_that_dies_or_hangs_needs_no_queue(disturbed: ClusterRun):
    """Killed, and stopped by a signal later: each time the ranks start again where they are."""
    assert disturbed.status.restarts == 2
    death, hang = [row for row in disturbed.events if row["event"] == "crashed"][:2]
    node = disturbed.status.attempts[0].nodes
    assert death["reason"] == "rank 1 was killed by SIGKILL"
    assert (hang["failure_class"], hang["rank"], hang["host"]) == ("hang", 1, node)
    assert hang["reason"].startswith(f"rank 1 on {node} sent no heartbeat for")
    assert "it was stopped by a signal" in hang["reason"]
    for rank in (0, 1):
        log = (disturbed.dir.attempt_logs(1) / f"rank_{rank}.log").read_text()
        assert "most recent call first" in log, f"no stack of rank {rank}"


def test_scancel_saves_and_nothing_follows(settings: tuple[str, ...]):
    run = submit(*settings, "name=scancelled")
    run.wait_for_step(15)
    slurm("scancel", run.job_id)
    run.wait_for("CANCELLED")
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)
    stop = next(row for row in run.events if row["event"] == "preempted")
    saved = [row["step"] for row in run.events if row["event"] == "checkpoint"]
    assert stop["step"] in saved
    assert run.status.why == "cancelled in Slurm"

"""What a job ends with, from how its ranks ended: node agents without ranks, in one process."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train.batch import solve_batch
from train.failures import ExitCode, Failure
from train.journal.events import CheckpointSaved, Crashed, Preempted
from train.journal.reading import of_kind, read_journal
from train.kernels.table import KernelChoice
from train.node import agent
from train.node.agent import NodePlace, run_agent
from train.node.starter import ImportsFailedError, ServerDiedError
from train.node.supervise import Ended
from train.result import Failed, read_result
from train.rundir import RunDir

WELL = Ended({}, killed_here=False)
KILLED = Ended({1: -9}, killed_here=True)
Start = Ended | Exception | Callable[[], Ended]
"""How one start of the ranks of a node ends."""


class FakeStarter:
    """Starts nothing; keeps what it was asked to start."""

    def __init__(self, *_: Any) -> None:
        self.started: list[tuple[list[str], dict[str, str], Path]] = []
        self.is_closed = False

    def wait_ready(self, within_s: float) -> float:
        return 1.5

    def is_alive(self) -> bool:
        return not self.is_closed

    def start(self, arguments: list[str], environ: dict[str, str], log: Path, listener: Any) -> int:
        assert (listener is not None) == (environ["RANK"] == "0")
        self.started.append((arguments, environ, log))
        return 100 + len(self.started)

    def signal_all(self, number: int) -> None:
        pass

    def kill(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True


class FakeWatchdog:
    """Finds no rank that hangs."""

    hang = None

    def __init__(self, *_: Any) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Job:
    """Nodes of a job whose starts end as a test says."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, nodes: int = 1) -> None:
        self.run_dir = RunDir(root / "run")
        self.logs = self.run_dir.attempt_logs(1)
        self.logs.mkdir(parents=True)
        self.nodes = nodes
        self.plan = SimpleNamespace(
            start_method="fork",
            device="cpu",
            nodes=nodes,
            ranks_per_node=2,
            batch=solve_batch(global_batch_size=8, micro_batch_size=1, world_size=2 * nodes),
            kernels={},
        )
        self.starters: list[FakeStarter] = []
        self.ranks: list[dict[int, int]] = []
        self.watches = [SimpleNamespace(tell=None, reason=None) for _ in range(nodes)]
        self._patch = monkeypatch
        config = SimpleNamespace(train=SimpleNamespace(hang_timeout_s=60.0))
        job = SimpleNamespace(run_dir=self.run_dir, plan=self.plan, config=config)
        monkeypatch.setattr(agent, "load_job", lambda _: job)
        monkeypatch.setattr(agent, "Starter", self._starter)
        monkeypatch.setattr(agent, "Watchdog", FakeWatchdog)
        monkeypatch.setattr(agent, "sweep_shared_memory", list)
        monkeypatch.setattr("train.node.agent.node_faults", lambda *_: [])
        monkeypatch.setattr("train.node.rendezvous.socket.gethostname", lambda: "127.0.0.1")

    def _starter(self, *words: Any) -> FakeStarter:
        self.starters.append(FakeStarter(*words))
        return self.starters[-1]

    def run(self, *starts: Start, node: int = 0, requeues: bool = False) -> ExitCode:
        """What one node's agent ends with."""
        script = iter(starts)

        def supervise(_starter: FakeStarter, ranks: dict[int, int], _gone: Callable[[], bool]) -> Ended:
            self.ranks.append(dict(ranks))
            step = next(script)
            if isinstance(step, Exception):
                raise step
            return step if isinstance(step, Ended) else step()

        self._patch.setattr(agent, "supervise", supervise)
        return self.run_node(node, requeues=requeues)

    def run_node(self, node: int, *, requeues: bool = False) -> ExitCode:
        place = NodePlace(node=node, nodes=self.nodes, token="t", requeues=requeues)
        watch: Any = self.watches[node]
        return run_agent(self.run_dir.root, 1, place, watch)

    @property
    def crashes(self) -> list[tuple[str, int, str]]:
        """Class, rank and what followed of each failure in the journal."""
        found = of_kind(read_journal(self.run_dir.events), Crashed)
        return [(crash.failure_class, crash.rank, crash.then) for crash in found]

    def rank_wrote(self, rank: int, failure_class: Any) -> Ended:
        """A rank that leaves a reason, and takes its peer with it."""
        failure = Failure(
            failure_class=failure_class, message="why", rank=rank, host="n", time=1.0, detail=""
        )
        failure.write(self.logs / f"failure_rank_{rank}.json")
        return Ended({rank: 1}, killed_here=True)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A job of one node, whose agent leaves nothing behind."""
    job = Job(tmp_path, monkeypatch)
    yield job
    assert all(starter.is_closed for starter in job.starters)
    assert all(watch.tell is None for watch in job.watches)


def test_ranks_that_end_well_end_the_job_well(job: Job):
    assert job.run(WELL) is ExitCode.DONE
    assert job.ranks == [{101: 0, 102: 1}]
    assert (job.crashes, job.run_dir.result.exists()) == ([], False)


def test_ranks_that_were_stopped_end_the_job_as_preempted(job: Job):
    def stopped() -> Ended:
        job.run_dir.log(Preempted(attempt=1, step=5, reason="SIGTERM"))
        return WELL

    assert job.run(stopped) is ExitCode.PREEMPTED
    assert not job.run_dir.result.exists()


def test_a_killed_rank_is_restarted_with_all_others(job: Job):
    assert job.run(KILLED, WELL) is ExitCode.DONE
    assert job.crashes == [("killed", 1, "restart")]
    environs = [environ for _, environ, _ in job.starters[0].started]
    assert [environ["RANK"] for environ in environs] == ["0", "1", "0", "1"]
    assert [environ["SHARDLINE_RESTART"] for environ in environs] == ["0", "0", "1", "1"]
    assert len({environ["TORCHELASTIC_RUN_ID"] for environ in environs}) == 2
    assert len({environ["MASTER_PORT"] for environ in environs}) == 2


@pytest.mark.parametrize(("requeues", "then"), [(False, "stop"), (True, "requeue")])
def test_restarts_without_a_checkpoint_come_to_an_end(job: Job, requeues: bool, then: str):
    assert job.run(*[KILLED] * 4, requeues=requeues) is ExitCode.RUN_FAILED
    assert [what for _, _, what in job.crashes] == ["restart", "restart", "restart", then]
    result = read_result(job.run_dir)
    assert (result is not None) == (then == "stop")
    if isinstance(result, Failed):
        assert (result.failure_class, result.attempts) == ("killed", 1)


def test_a_checkpoint_gives_new_restarts(job: Job):
    def saved_then_killed() -> Ended:
        job.run_dir.log(CheckpointSaved(attempt=1, step=3, bytes=1, seconds=1.0))
        return KILLED

    assert job.run(*[KILLED] * 3, saved_then_killed, KILLED, KILLED, WELL) is ExitCode.DONE
    assert [what for _, _, what in job.crashes] == ["restart"] * 6


@pytest.mark.parametrize(("requeues", "then"), [(False, "stop"), (True, "requeue")])
def test_nothing_is_restarted_after_a_request_to_stop(job: Job, requeues: bool, then: str):
    def asked_then_killed() -> Ended:
        job.watches[0].reason = "SIGTERM"
        return KILLED

    assert job.run(asked_then_killed, requeues=requeues) is ExitCode.RUN_FAILED
    assert job.crashes == [("killed", 1, then)]


def test_what_a_rank_wrote_decides(job: Job):
    assert job.run(lambda: job.rank_wrote(1, "saves_failed")) is ExitCode.SAVES_FAILED
    assert job.crashes == [("saves_failed", 1, "stop")]
    result = read_result(job.run_dir)
    assert isinstance(result, Failed)
    assert (result.exit_code, result.reason) == (ExitCode.SAVES_FAILED, "why")


def test_what_a_rank_wrote_before_a_restart_is_forgotten(job: Job):
    assert job.run(lambda: job.rank_wrote(0, "network"), KILLED, WELL) is ExitCode.DONE
    assert job.crashes == [("network", 0, "restart"), ("killed", 1, "restart")]


@pytest.mark.parametrize(
    ("error", "failure_class", "then", "servers"),
    [
        (ServerDiedError("killed"), "killed", "restart", 1),
        (TimeoutError("silent"), "hang", "restart", 2),
        (
            ImportsFailedError(
                Failure(failure_class="user", message="m", rank=-1, host="n", time=1.0, detail="")
            ),
            "user",
            "stop",
            1,
        ),
        (ZeroDivisionError("a bug"), "bug", "stop", 1),
    ],
)
def test_errors_of_the_start_have_a_class_too(
    job: Job, error: Exception, failure_class: str, then: str, servers: int
):
    code = job.run(error, WELL)
    assert code is (ExitCode.DONE if then == "restart" else ExitCode.RUN_FAILED)
    assert job.crashes == [(failure_class, -1, then)]
    assert len(job.starters) == servers


@pytest.mark.parametrize(("requeues", "then"), [(False, "stop"), (True, "requeue")])
def test_an_unfit_node_starts_no_rank(job: Job, monkeypatch: pytest.MonkeyPatch, requeues: bool, then: str):
    monkeypatch.setattr("train.node.agent.node_faults", lambda *_: ["no GPU", "no room"])
    assert job.run(requeues=requeues) is ExitCode.RUN_FAILED
    assert job.crashes == [("node", -1, then)]
    assert job.ranks == []


def test_an_op_that_cannot_be_compiled_starts_no_rank(job: Job, monkeypatch: pytest.MonkeyPatch):
    job.plan.kernels = {"optimizer": KernelChoice(name="cpu_adam", why="asked for")}
    monkeypatch.setattr(agent, "build_in_child", lambda op: f"no compiler for {op}")
    assert job.run() is ExitCode.RUN_FAILED
    assert job.crashes == [("user", -1, "stop")]
    result = read_result(job.run_dir)
    assert isinstance(result, Failed)
    assert "no compiler for cpu_adam" in result.reason


def test_a_silent_node_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agent._Agent._agree, "__defaults__", (0.05,))
    monkeypatch.setattr("train.node.rendezvous._LEAVE_WITHIN_S", 0.05)
    job = Job(tmp_path, monkeypatch, nodes=2)
    assert job.run(*[WELL] * 3, requeues=True) is ExitCode.RUN_FAILED
    assert job.crashes == [("network", -1, "restart")] * 3 + [("network", -1, "requeue")]


def test_nodes_do_what_node_0_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = Job(tmp_path, monkeypatch, nodes=2)
    starts: dict[int, list[Ended]] = {0: [WELL, WELL], 1: [Ended({3: -9}, killed_here=True), WELL]}

    def supervise(_starter: Any, ranks: dict[int, int], _gone: Callable[[], bool]) -> Ended:
        return starts[min(ranks.values()) // 2].pop(0)

    monkeypatch.setattr(agent, "supervise", supervise)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(job.run_node, (0, 1))) == [ExitCode.DONE, ExitCode.DONE]
    assert job.crashes == [("killed", 3, "restart")]
    assert starts == {0: [], 1: []}
    assert json.loads((job.logs / "rendezvous.json").read_text())["host"] == "127.0.0.1"

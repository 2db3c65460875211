"""The node agent: starts one rank per GPU, watches the ranks and restarts them when one fails.

Runs the same under Submitit's local executor and under Slurm; the caller passes its place in the job. The
agents of a job act together: each reports how its ranks ended, node 0 decides, and all follow its decision.
"""

import os
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.failures import (
    ExitCode,
    Failure,
    Then,
    describe,
    first_cause,
    node_name,
    read_failures,
    what_follows,
)
from train.job import TrainJob, load_job
from train.journal.events import CheckpointSaved, Crashed, Preempted, Submitted
from train.journal.reading import of_kind, read_journal
from train.kernels.ops import build_in_child, extensions_folder
from train.kernels.table import ops_of
from train.node import heartbeat
from train.node.forkserver import IMPORT_S_VARIABLE
from train.node.shared_memory import sweep_shared_memory
from train.node.signals import StopWatch
from train.node.starter import ImportsFailedError, ServerDiedError, Starter
from train.node.supervise import Ended, supervise
from train.node.watchdog import LONG_PHASE_FACTOR, Watchdog
from train.rank_environment import RankStart
from train.result import Failed, write_result

if TYPE_CHECKING:
    from train.node.rendezvous import Rendezvous

_REPORT_WITHIN_S = 120.0
_BUILD_WITHIN_S = 1200.0
_HEAR_WITHIN_S = 3600.0
_RANK_MODULE = "train.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """The place of this agent in the job."""

    node: int
    """The number of the node; node 0 decides for the job."""
    nodes: int
    token: str
    """Identifies this start of the job."""
    requeues: bool
    """Whether a scheduler can requeue the job on other nodes."""


@dataclass(frozen=True, slots=True)
class _JobDecision:
    """The next action of all nodes."""

    then: Then | None
    """The next action; None if the ranks ended without an error."""
    code: ExitCode


def run_agent(root: Path, attempt: int, place: NodePlace, watch: StopWatch) -> ExitCode:
    """Run the ranks of this node until the run is finished, stopped or failed.

    Args:
        root: The run directory.
        attempt: The attempt number.
        place: The place of this agent in the job.
        watch: Receives stop requests.

    Returns:
        The exit code of the job. result.json has the same code, unless the job is requeued.

    Raises:
        RendezvousError: Another node did not answer in time.
    """
    job = load_job(root)
    agent = _Agent(job, attempt, place, watch)
    try:
        return agent.run()
    finally:
        agent.close()


class _Agent:
    """The agent of one node in one attempt."""

    def __init__(self, job: TrainJob, attempt: int, place: NodePlace, watch: StopWatch) -> None:
        self._job = job
        self._attempt = attempt
        self._place = place
        self._watch = watch
        self._logs = job.run_dir.attempt_logs(attempt)
        # Started first: its imports run while this process imports torch and checks the node.
        self._starter = self._new_starter()
        self._rendezvous = self._meet()

    def close(self) -> None:
        """End the process that starts the ranks."""
        self._watch.tell = None
        self._starter.close()

    def _new_starter(self) -> Starter:
        starter = Starter(
            self._job.start_method,
            _RANK_MODULE,
            [str(self._job.run_dir.root)],
            self._node_environment(),
        )
        self._watch.tell = starter.signal_all
        return starter

    def _meet(self) -> "Rendezvous":
        from train.node.rendezvous import Rendezvous

        return Rendezvous(self._logs, self._place.node, self._place.nodes)

    def run(self) -> ExitCode:
        """Check the nodes, then start the ranks until they succeed or the nodes decide to stop."""
        decision = self._agree("health", self._check_node())
        if decision.then is None:
            decision = self._agree("build", self._build_ops(), within_s=_BUILD_WITHIN_S)
        restarts = 0
        while decision.then is None or decision.then == "restart":
            decision = self._agree(f"start_{restarts}", self._run_ranks(restarts))
            if decision.then is None:
                break
            restarts += 1
        return decision.code

    def _check_node(self) -> Failure | None:
        from train.node.health import node_faults

        sweep_shared_memory()
        folders = {
            "the run directory": self._job.run_dir.root,
            "the node's disk": Path(tempfile.gettempdir()),
        }
        faults = node_faults(self._job.plan, folders)
        if not faults:
            return None
        return self._failure("node", f"node {node_name()} failed its health check: {'; '.join(faults)}")

    def _build_ops(self) -> Failure | None:
        """Compile the kernels before the ranks start, once for all nodes of the same kind."""
        for op in ops_of(self._job.plan.kernels):
            stderr = build_in_child(op)
            if stderr is not None:
                return self._failure("user", f"{op} could not be compiled on {node_name()}: {stderr}")
        return None

    def _agree(self, topic: str, failure: Failure | None, within_s: float = _REPORT_WITHIN_S) -> _JobDecision:
        """Report the result of this node; returns the decision of node 0."""
        report = {"failed": failure is not None, "failure": asdict(failure) if failure else None}
        self._rendezvous.report(topic, report)
        if self._place.node == 0:
            decision = self._decide(topic, self._rendezvous.collect(topic, within_s))
            self._rendezvous.announce(topic, asdict(decision))
            return decision
        heard = self._rendezvous.hear(topic, _HEAR_WITHIN_S)
        return _JobDecision(heard["then"], ExitCode(heard["code"]))

    def _decide(self, topic: str, reports: list[Any]) -> _JobDecision:
        """Decide from all reports what follows, and journal it; called on node 0 only."""
        failures = [Failure(**report["failure"]) for report in reports if report and report["failed"]]
        silent = [str(node) for node, report in enumerate(reports) if report is None]
        if silent:
            failures.append(self._failure("network", f"no report from node {', '.join(silent)} of the job"))
        cause = first_cause(failures)
        if cause is None:
            return _JobDecision(None, ExitCode.DONE if topic in ("health", "build") else self._ended_as())
        then = what_follows(
            cause.failure_class,
            restarts=self._restarts_since_checkpoint(),
            may_requeue=self._place.requeues,
            stopping=self._watch.reason is not None,
        )
        self._job.run_dir.log(
            Crashed(
                attempt=self._attempt,
                failure_class=cause.failure_class,
                rank=cause.rank,
                host=cause.host,
                reason=cause.message,
                then=then,
            )
        )
        if then == "stop":
            self._write_failure(cause)
        return _JobDecision(then, cause.exit_code)

    def _run_ranks(self, restarts: int) -> Failure | None:
        """Start the ranks once and wait for them; returns None if all ended without an error."""
        if self._place.node == 0:
            for old in self._logs.glob("failure_rank_*.json"):
                old.unlink()
        with tempfile.TemporaryDirectory(prefix="shardline-") as scratch:
            dog = Watchdog(Path(scratch), self._logs, self._job.config.train.hang_timeout_s)
            dog.start()
            try:
                ended = self._start_and_wait(restarts, Path(scratch), dog)
            except ImportsFailedError as error:
                return error.failure
            except ServerDiedError as error:
                return self._failure("killed", f"{error} on {node_name()}")
            except TimeoutError as error:
                self._starter.kill()
                return self._failure("hang", f"{error} on {node_name()}")
            except Exception as error:  # noqa: BLE001 - any error must be reported to the other nodes
                self._starter.kill()
                failure = describe(error, rank=-1, time=time.time())
                return failure.in_words(f"node agent on {node_name()}: {error}")
            finally:
                dog.stop()
            return None if ended.well else dog.hang or self._cause(ended)

    def _start_and_wait(self, restarts: int, scratch: Path, dog: Watchdog) -> Ended:
        """Start all ranks of this node and wait for them; replaces the server if it died."""
        if not self._starter.is_alive():
            self._starter.close()
            self._starter = self._new_starter()
        topic = f"start_{restarts}"
        endpoint = self._rendezvous.open_store(topic)
        import_s = self._starter.wait_ready(self._job.config.train.hang_timeout_s * LONG_PHASE_FACTOR)
        ranks = {}
        for local_rank in range(self._job.plan.ranks_per_node):
            rank = self._place.node * self._job.plan.ranks_per_node + local_rank
            pid = self._starter.start(
                [str(self._job.run_dir.root), str(rank)],
                self._rank_environment(rank, local_rank, restarts, endpoint)
                | {heartbeat.HEARTBEAT_VARIABLE: str(scratch), IMPORT_S_VARIABLE: str(import_s)},
                self._logs / f"rank_{rank}.log",
            )
            ranks[pid] = rank
        return supervise(
            self._starter,
            ranks,
            lambda: dog.hang is not None or self._rendezvous.reported_elsewhere(topic, "failed"),
        )

    def _cause(self, ended: Ended) -> Failure:
        """Return why this node's ranks failed: a failure that they wrote, or the end of the first one."""
        written = first_cause(read_failures(self._logs))
        if ended.codes and (written is None or written.failure_class == "network"):
            # A killed rank takes precedence over one that lost its peer.
            rank, code = min(ended.codes.items(), key=lambda item: item[1] > 0)
            if code < 0:
                message = f"rank {rank} was killed by {signal.Signals(-code).name}"
                return self._failure("killed", message, rank=rank)
            if written is None:
                message = f"rank {rank} exited with code {code} without reporting an error; see its log"
                return self._failure("killed", message, rank=rank)
        if written:
            return written
        return self._failure("network", "ranks on another node were lost")

    def _node_environment(self) -> dict[str, str]:
        """Return the environment that is equal for all ranks of this node and all starts."""
        cores = len(os.sched_getaffinity(0))
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, cores // self._job.plan.ranks_per_node)),
            "TOKENIZERS_PARALLELISM": "false",
            "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
            # The plan checked that model and data are local, so no hub is needed at run time.
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            # Otherwise DeepSpeed looks for a device during its import.
            "DS_ACCELERATOR": self._job.plan.device,
        }
        if self._job.plan.device == "cpu":
            environ["CUDA_VISIBLE_DEVICES"] = ""
        return environ

    def _rank_environment(self, rank: int, local_rank: int, restarts: int, endpoint: str) -> dict[str, str]:
        """Return the environment of one rank: torchrun's variables for torch and DeepSpeed, and our own."""
        plan = self._job.plan
        host, _, port = endpoint.rpartition(":")
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(plan.nodes * plan.ranks_per_node),
            "LOCAL_WORLD_SIZE": str(plan.ranks_per_node),
            "GROUP_RANK": str(self._place.node),
            "GROUP_WORLD_SIZE": str(plan.nodes),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            # The store already exists; all ranks are clients.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
            "TORCHELASTIC_RUN_ID": f"{self._place.token}-{restarts}",
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
            **RankStart(attempt=self._attempt, restart=restarts).as_environ(),
        }

    def _restarts_since_checkpoint(self) -> int:
        """Return the number of restarts since the newest checkpoint; earlier ones are ignored."""
        count = 0
        for event in read_journal(self._job.run_dir.events):
            if isinstance(event, CheckpointSaved | Submitted):
                count = 0
            elif isinstance(event, Crashed) and event.attempt == self._attempt:
                count += 1
        return count

    def _ended_as(self) -> ExitCode:
        """Return the exit code of ranks that ended with 0: the journal records whether they were stopped."""
        stops = of_kind(read_journal(self._job.run_dir.events), Preempted)
        stopped = any(stop.attempt == self._attempt for stop in stops)
        return ExitCode.PREEMPTED if stopped else ExitCode.DONE

    def _write_failure(self, cause: Failure) -> None:
        write_result(
            self._job.run_dir,
            Failed(
                reason=cause.message,
                exit_code=cause.exit_code,
                failure_class=cause.failure_class,
                attempts=self._attempt,
            ),
        )

    def _failure(self, failure_class: Any, message: str, rank: int = -1) -> Failure:
        return Failure(
            failure_class=failure_class,
            message=message,
            rank=rank,
            host=node_name(),
            time=time.time(),
            detail="",
        )

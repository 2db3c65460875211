"""The node agent: starts one rank per GPU, watches the ranks and restarts them when one fails.

Runs the same under Submitit's local executor and under Slurm; the caller passes its place in the job. The
agents of a job act together: each reports how its ranks ended, node 0 decides, and all follow its decision.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.failures import ExitCode, Failure, describe, node_name, read_failures
from train.job import TrainJob, load_job
from train.journal.events import Crashed
from train.journal.reading import read_journal
from train.kernels.ops import build_in_child
from train.kernels.table import ops_of
from train.node import heartbeat
from train.node.decide import (
    FAILED,
    Decision,
    cause_in,
    cause_on_node,
    decide_ended,
    decide_failed,
    failure_here,
    report_of,
)
from train.node.environment import node_environment, rank_environment
from train.node.forkserver import IMPORT_S_VARIABLE
from train.node.health import node_faults
from train.node.rendezvous import Rendezvous
from train.node.shared_memory import sweep_shared_memory
from train.node.signals import StopWatch
from train.node.starter import ImportsFailedError, ServerDiedError, Starter
from train.node.supervise import Ended, supervise
from train.node.watchdog import LONG_PHASE_FACTOR, Watchdog
from train.rank_environment import RankStart
from train.result import Failed, write_result

_REPORT_WITHIN_S = 120.0
_BUILD_WITHIN_S = 1200.0
_HEAR_WITHIN_S = 3600.0
_RANK_MODULE = "train.worker"
_CHECKS = ("health", "build")
"""Topics on which the nodes agree before the ranks start."""


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
        # Started first: its imports run while this process finds the other nodes and checks its own.
        self._starter = self._new_starter()
        self._rendezvous = Rendezvous(self._logs, place.node, place.nodes)

    def close(self) -> None:
        """End the process that starts the ranks, and leave the store of the nodes."""
        self._watch.tell = None
        self._starter.close()
        self._rendezvous.leave()

    def _new_starter(self) -> Starter:
        starter = Starter(
            self._job.plan.start_method,
            _RANK_MODULE,
            [str(self._job.run_dir.root)],
            node_environment(self._job.plan, os.environ),
        )
        self._watch.tell = starter.signal_all
        return starter

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
        sweep_shared_memory()
        folders = {
            "the run directory": self._job.run_dir.root,
            "the node's disk": Path(tempfile.gettempdir()),
        }
        faults = node_faults(self._job.plan, folders)
        if not faults:
            return None
        return failure_here("node", f"node {node_name()} failed its health check: {'; '.join(faults)}")

    def _build_ops(self) -> Failure | None:
        """Compile the kernels before the ranks start, once for all nodes of the same kind."""
        for op in ops_of(self._job.plan.kernels):
            stderr = build_in_child(op)
            if stderr is not None:
                return failure_here("user", f"{op} could not be compiled on {node_name()}: {stderr}")
        return None

    def _agree(self, topic: str, failure: Failure | None, within_s: float = _REPORT_WITHIN_S) -> Decision:
        """Report the result of this node; returns the decision of node 0."""
        self._rendezvous.report(topic, report_of(failure))
        if self._place.node == 0:
            decision = self._decide(topic, self._rendezvous.collect(topic, within_s))
            self._rendezvous.announce(topic, decision.as_row())
            return decision
        return Decision.from_row(self._rendezvous.hear(topic, _HEAR_WITHIN_S))

    def _decide(self, topic: str, reports: list[Mapping[str, Any] | None]) -> Decision:
        """Decide from all reports what follows, and journal it; called on node 0 only."""
        run_dir = self._job.run_dir
        cause = cause_in(reports)
        if cause is None and topic in _CHECKS:
            return Decision(None, ExitCode.DONE)
        journal = read_journal(run_dir.events)
        if cause is None:
            return decide_ended(journal, self._attempt)
        decision = decide_failed(
            cause,
            journal,
            attempt=self._attempt,
            may_requeue=self._place.requeues,
            stopping=self._watch.reason is not None,
        )
        assert decision.then is not None
        run_dir.log(
            Crashed(
                attempt=self._attempt,
                failure_class=cause.failure_class,
                rank=cause.rank,
                host=cause.host,
                reason=cause.message,
                then=decision.then,
            )
        )
        if decision.then == "stop":
            self._write_failure(cause)
        return decision

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
                return failure_here("killed", f"{error} on {node_name()}")
            except TimeoutError as error:
                self._starter.kill()
                return failure_here("hang", f"{error} on {node_name()}")
            except Exception as error:  # noqa: BLE001 - any error must be reported to the other nodes
                self._starter.kill()
                failure = describe(error, rank=-1, time=time.time())
                return failure.in_words(f"node agent on {node_name()}: {error}")
            finally:
                dog.stop()
            return None if ended.well else dog.hang or cause_on_node(ended, read_failures(self._logs))

    def _start_and_wait(self, restarts: int, scratch: Path, dog: Watchdog) -> Ended:
        """Start all ranks of this node and wait for them; replaces the server if it died."""
        if not self._starter.is_alive():
            self._starter.close()
            self._starter = self._new_starter()
        topic = f"start_{restarts}"
        endpoint, listener = self._rendezvous.open_endpoint(topic)
        ranks, plan = {}, self._job.plan
        # Only rank 0 may keep the socket open: when that rank dies, the others must notice.
        with listener or nullcontext():
            import_s = self._starter.wait_ready(self._job.config.train.hang_timeout_s * LONG_PHASE_FACTOR)
            for local_rank in range(plan.ranks_per_node):
                rank = self._place.node * plan.ranks_per_node + local_rank
                environ = rank_environment(
                    plan,
                    node=self._place.node,
                    local_rank=local_rank,
                    endpoint=endpoint,
                    run_id=f"{self._place.token}-{restarts}",
                    start=RankStart(attempt=self._attempt, restart=restarts),
                )
                pid = self._starter.start(
                    [str(self._job.run_dir.root), str(rank)],
                    environ | {heartbeat.HEARTBEAT_VARIABLE: str(scratch), IMPORT_S_VARIABLE: str(import_s)},
                    self._logs / f"rank_{rank}.log",
                    listener if rank == 0 else None,
                )
                ranks[pid] = rank
        return supervise(
            self._starter,
            ranks,
            lambda: dog.hang is not None or self._rendezvous.reported_elsewhere(topic, FAILED),
        )

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

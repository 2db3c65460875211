"""Decides on node 0, from the reports of all nodes, what the nodes of a job do next. Torch-free."""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from train.failures import ExitCode, Failure, FailureClass, Then, first_cause, node_name, what_follows
from train.journal.events import CheckpointSaved, Crashed, Preempted, Submitted
from train.journal.reading import of_kind
from train.node.supervise import Ended
from train.records.base import RunEvent

FAILED = "failed"
"""The field of a report that other nodes read while their own ranks are running."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The next action of all nodes."""

    then: Then | None
    """The next action; None if nothing failed."""
    code: ExitCode

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Decision":
        """Return the decision of which `as_row` made a row."""
        return cls(row["then"], ExitCode(row["code"]))

    def as_row(self) -> dict[str, Any]:
        """Return the row that node 0 announces."""
        return asdict(self)


def failure_here(failure_class: FailureClass, message: str, rank: int = -1) -> Failure:
    """Return a failure that happened on this node now; rank -1 is the node agent."""
    return Failure(
        failure_class=failure_class,
        message=message,
        rank=rank,
        host=node_name(),
        time=time.time(),
        detail="",
    )


def report_of(failure: Failure | None) -> dict[str, Any]:
    """Return the report of a node: whether it failed, and why."""
    return {FAILED: failure is not None, "failure": asdict(failure) if failure else None}


def cause_in(reports: Sequence[Mapping[str, Any] | None]) -> Failure | None:
    """Return the failure that caused the others; None if every node reported and none failed.

    Args:
        reports: By node; None for a node that did not report in time.
    """
    failures = [Failure(**report["failure"]) for report in reports if report and report[FAILED]]
    silent = [str(node) for node, report in enumerate(reports) if report is None]
    if silent:
        failures.append(failure_here("network", f"no report from node {', '.join(silent)} of the job"))
    return first_cause(failures)


def decide_failed(
    cause: Failure, journal: Sequence[RunEvent], *, attempt: int, may_requeue: bool, stopping: bool
) -> Decision:
    """Decide what follows a failure.

    Args:
        cause: The failure that caused the others.
        journal: The journal of the run, without this failure.
        attempt: The number of the attempt that failed.
        may_requeue: Whether a scheduler can requeue the job on other nodes.
        stopping: Whether the job was asked to stop.
    """
    then = what_follows(
        cause.failure_class,
        restarts=restarts_since_checkpoint(journal, attempt),
        may_requeue=may_requeue,
        stopping=stopping,
    )
    return Decision(then, cause.exit_code)


def decide_ended(journal: Sequence[RunEvent], attempt: int) -> Decision:
    """Decide what follows ranks that ended with 0: the journal records whether they were stopped."""
    stopped = any(stop.attempt == attempt for stop in of_kind(journal, Preempted))
    return Decision(None, ExitCode.PREEMPTED if stopped else ExitCode.DONE)


def restarts_since_checkpoint(journal: Sequence[RunEvent], attempt: int) -> int:
    """Return the number of restarts since the newest checkpoint; earlier ones are ignored."""
    count = 0
    for event in journal:
        if isinstance(event, CheckpointSaved | Submitted):
            count = 0
        elif isinstance(event, Crashed) and event.attempt == attempt:
            count += 1
    return count


def cause_on_node(ended: Ended, written: Sequence[Failure]) -> Failure:
    """Return why this node's ranks failed: a failure that they wrote, or the end of the first one.

    Args:
        ended: How the ranks of this node ended.
        written: Failures that ranks of the job wrote beside their logs.
    """
    cause = first_cause(written)
    if ended.codes and (cause is None or cause.failure_class == "network"):
        # A killed rank takes precedence over one that lost its peer.
        rank, code = min(ended.codes.items(), key=lambda item: item[1] > 0)
        if code < 0:
            message = f"rank {rank} was killed by {signal.Signals(-code).name}"
            return failure_here("killed", message, rank)
        if cause is None:
            message = f"rank {rank} exited with code {code} without reporting an error; see its log"
            return failure_here("killed", message, rank)
    return cause or failure_here("network", "ranks on another node were lost")

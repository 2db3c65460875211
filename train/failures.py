"""Classes of failures, which determine what happens next. Torch-free."""

import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Literal

from train.rundir import write_json

FailureClass = Literal[
    "user",
    "data",
    "out_of_memory",
    "node",
    "network",
    "killed",
    "hang",
    "no_checkpoint",
    "saves_failed",
    "bug",
]
Then = Literal["restart", "requeue", "stop"]
"""The next action: restart in place, requeue the job in another allocation, or stop."""
_MEMORY_ADVICE = (
    "use a smaller train.micro_batch_size or data.max_length, model.activation_checkpointing=selective or"
    " full, a higher zero.stage, offload, or more GPUs"
)
MAX_RESTARTS = 3
"""Maximum number of restarts in place without a new checkpoint."""


NODE_NAME_VARIABLE = "SHARDLINE_NODE_NAME"


class ExitCode(IntEnum):
    """The exit codes of commands and jobs, which are an API for scripts."""

    DONE = 0
    USER_ERROR = 2
    REFUSED = 3
    RUN_FAILED = 4
    PREEMPTED = 75
    NO_PROGRESS = 93
    NO_USABLE_CHECKPOINT = 94
    SAVES_FAILED = 95


_EXIT_CODES: dict[FailureClass, ExitCode] = {
    "no_checkpoint": ExitCode.NO_USABLE_CHECKPOINT,
    "saves_failed": ExitCode.SAVES_FAILED,
}


class RunError(Exception):
    """A failure with a known class; its message includes the fix."""

    failure_class: FailureClass = "bug"


class UserError(RunError):
    """The config is invalid for this run."""

    failure_class: FailureClass = "user"


class DataError(RunError):
    """A data file or row does not match the config."""

    failure_class: FailureClass = "data"


class NodeFaultError(RunError):
    """This node or its connection is faulty; another node may work."""

    failure_class: FailureClass = "node"


class SavesFailedError(RunError):
    """Checkpoints cannot be saved any more, so further training would be lost."""

    failure_class: FailureClass = "saves_failed"


class NoUsableCheckpointError(RunError):
    """Checkpoints were saved but none is usable; whether to start over is the user's decision."""

    failure_class: FailureClass = "no_checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The failure of a rank, as written next to its log."""

    failure_class: FailureClass
    message: str
    rank: int
    host: str
    time: float
    detail: str

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that ends with this failure."""
        return _EXIT_CODES.get(self.failure_class, ExitCode.RUN_FAILED)

    def in_words(self, message: str) -> "Failure":
        """Return a copy with another message."""
        return replace(self, message=message)

    def write(self, path: Path) -> None:
        """Write the failure to a file for the node agent."""
        write_json(path, asdict(self))


def classify(error: BaseException) -> FailureClass:
    """Return the class of an exception raised on a rank."""
    if isinstance(error, RunError):
        return error.failure_class
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory"
    text = f"{type(error).__name__}: {error}".lower()
    if "out of memory" in text or "can't allocate memory" in text:
        return "out_of_memory"
    peer_lost = (
        "connection closed by peer",
        "connection reset",
        "socket",
        "distbackenderror",
        "gloo",
        "nccl",
    )
    if any(word in text for word in peer_lost):
        return "network"
    return "bug"


def node_name() -> str:
    """Return the name of this machine in its scheduler, or its host name without one."""
    return os.environ.get(NODE_NAME_VARIABLE) or os.uname().nodename


def describe(error: BaseException, *, rank: int, time: float) -> Failure:
    """Return the failure record of an exception."""
    return Failure(
        failure_class=classify(error),
        message=_message(error),
        rank=rank,
        host=node_name(),
        time=time,
        detail="".join(traceback.format_exception(error))[-8000:],
    )


def _message(error: BaseException) -> str:
    if isinstance(error, RunError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    return f"{text}; {_MEMORY_ADVICE}" if classify(error) == "out_of_memory" else text


def read_failures(directory: Path) -> list[Failure]:
    """Read the failures of ranks from an attempt's log directory."""
    return [Failure(**json.loads(path.read_text())) for path in directory.glob("failure_rank_*.json")]


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """Return the earliest failure; failures that only report lost peers are used last."""
    return min(failures, key=lambda failure: (failure.failure_class == "network", failure.time), default=None)


def what_follows(failure_class: FailureClass, *, restarts: int, may_requeue: bool, stopping: bool) -> Then:
    """Return the next action after the ranks failed.

    Failures of config, data, memory or code would occur again, so they stop the run. Ranks that were killed,
    hung or lost their peers are restarted in place. If that does not help, or the node is faulty, the job is
    requeued.

    Args:
        failure_class: Class of the first cause.
        restarts: Restarts in place since the newest checkpoint.
        may_requeue: Whether a scheduler can requeue the job on other nodes.
        stopping: Whether the job was asked to stop, which leaves no time for a restart.
    """
    if failure_class not in ("killed", "hang", "network", "node"):
        return "stop"
    if failure_class != "node" and restarts < MAX_RESTARTS and not stopping:
        return "restart"
    return "requeue" if may_requeue else "stop"

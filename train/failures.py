"""Errors have a class, and the class decides what happens next. Torch-free."""

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
"""In place, in another allocation, or not at all."""
_MEMORY_ADVICE = (
    "use a smaller train.micro_batch_size or data.max_length, model.activation_checkpointing=selective or"
    " full, a higher zero.stage, offload, or more GPUs"
)
MAX_RESTARTS = 3
"""Starts in place without a new checkpoint."""


NODE_NAME_VARIABLE = "SHARDLINE_NODE_NAME"


class ExitCode(IntEnum):
    """What the command and the job end with; scripts rely on the numbers."""

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
    """A failure whose class is known where it is raised; the message says what to do."""

    failure_class: FailureClass = "bug"


class UserError(RunError):
    """The config asks for something that cannot be."""

    failure_class: FailureClass = "user"


class DataError(RunError):
    """A row or a file is not what the config says."""

    failure_class: FailureClass = "data"


class NodeFaultError(RunError):
    """This node or its connection is unfit; another one may do."""

    failure_class: FailureClass = "node"


class SavesFailedError(RunError):
    """Nothing can be saved any more: training on would risk all of it."""

    failure_class: FailureClass = "saves_failed"


class NoUsableCheckpointError(RunError):
    """Progress was recorded and nothing is left to resume from: starting over is the user's decision."""

    failure_class: FailureClass = "no_checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a rank ended, as written next to its log."""

    failure_class: FailureClass
    message: str
    rank: int
    host: str
    time: float
    detail: str

    @property
    def exit_code(self) -> ExitCode:
        """What the whole run ends with when this failure stops it."""
        return _EXIT_CODES.get(self.failure_class, ExitCode.RUN_FAILED)

    def in_words(self, message: str) -> "Failure":
        """The same with another message."""
        return replace(self, message=message)

    def write(self, path: Path) -> None:
        """Leave the failure for the node agent."""
        write_json(path, asdict(self))


def classify(error: BaseException) -> FailureClass:
    """The class of an exception raised on a rank."""
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
    """This machine as its scheduler calls it, else as it calls itself."""
    return os.environ.get(NODE_NAME_VARIABLE) or os.uname().nodename


def describe(error: BaseException, *, rank: int, time: float) -> Failure:
    """The record of an exception."""
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
    """Failures that ranks left in an attempt's log directory."""
    return [Failure(**json.loads(path.read_text())) for path in directory.glob("failure_rank_*.json")]


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """The failure that the others followed from: a rank that only lost its peers is never it."""
    return min(failures, key=lambda failure: (failure.failure_class == "network", failure.time), default=None)


def what_follows(failure_class: FailureClass, *, restarts: int, may_requeue: bool, stopping: bool) -> Then:
    """What to do after the ranks failed.

    What the config, the data, the memory or the code did would happen again. A rank that was killed, hung or
    lost its peers is worth another start here; a node that is unfit, or one where that did not help, is left.

    Args:
        failure_class: Of the first cause.
        restarts: Starts in place since a checkpoint was last made.
        may_requeue: Whether a scheduler can put the job elsewhere.
        stopping: The job was asked to stop: there is no time to start again.
    """
    if failure_class not in ("killed", "hang", "network", "node"):
        return "stop"
    if failure_class != "node" and restarts < MAX_RESTARTS and not stopping:
        return "restart"
    return "requeue" if may_requeue else "stop"

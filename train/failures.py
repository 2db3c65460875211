"""Errors have a class, and the class decides what happens next. Torch-free."""

import json
import traceback
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from train.rundir import write_json

FailureClass = Literal["user", "data", "out_of_memory", "node", "network", "no_checkpoint", "bug"]


class ExitCode(IntEnum):
    """What the command and the job end with; scripts rely on the numbers."""

    DONE = 0
    USER_ERROR = 2
    REFUSED = 3
    RUN_FAILED = 4
    PREEMPTED = 75
    NO_PROGRESS = 93
    NO_USABLE_CHECKPOINT = 94


class RunError(Exception):
    """A failure whose class is known where it is raised; the message says what to do."""

    failure_class: FailureClass = "bug"


class UserError(RunError):
    """The config asks for something that cannot be."""

    failure_class: FailureClass = "user"


class DataError(RunError):
    """A row or a file is not what the config says."""

    failure_class: FailureClass = "data"


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
        return ExitCode.NO_USABLE_CHECKPOINT if self.failure_class == "no_checkpoint" else ExitCode.RUN_FAILED

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


def describe(error: BaseException, *, rank: int, host: str, time: float) -> Failure:
    """The record of an exception."""
    return Failure(
        failure_class=classify(error),
        message=f"{error}" if isinstance(error, RunError) else f"{type(error).__name__}: {error}",
        rank=rank,
        host=host,
        time=time,
        detail="".join(traceback.format_exception(error))[-8000:],
    )


def read_failures(directory: Path) -> list[Failure]:
    """Failures that ranks left in an attempt's log directory, first cause first.

    A rank that only lost its peers is never the cause when another rank says more.
    """
    failures = [Failure(**json.loads(path.read_text())) for path in directory.glob("failure_rank_*.json")]
    return sorted(failures, key=lambda failure: (failure.failure_class == "network", failure.time))


def restart_in_place(failure: Failure | None, *, restarts: int, max_restarts: int = 3) -> bool:
    """Whether to start the ranks again inside the allocation.

    A rank that was killed from outside leaves no failure (`None`), its peers a lost connection: both are
    worth another start. What the config, the data, the memory or the code did would happen again.
    """
    worth_it = failure is None or failure.failure_class in ("network", "node")
    return worth_it and restarts < max_restarts

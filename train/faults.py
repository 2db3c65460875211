"""Fault injection for tests: the kind of fault, the point, the rank and the step. Torch-free.

    SHARDLINE_FAULT="kill9@save.shard:rank=1:step=20;enospc@save.manifest:step=30:restart=1"

Disabled unless the variable is set; if it is, that is logged and journaled. By default a fault is injected
once, in the first start of the first attempt; `attempt` and `restart` choose others.
"""

import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from train.rank_environment import RankStart
from train.step_number import StepNumber

FAULT_VARIABLE = "SHARDLINE_FAULT"
FaultKind = Literal["kill9", "term", "stop", "raise", "enospc", "slow", "nan", "bitflip", "hang"]
SAVE_POINTS = (
    "save.begin",
    "save.copy",
    "save.shard",
    "save.written",
    "save.report",
    "save.manifest",
    "save.rename",
    "save.latest",
    "save.end",
    "prune",
)
POINTS = ("data", "forward", "backward", "step", *SAVE_POINTS, "load", "evaluation", "exit")
_SLOW_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One requested fault."""

    kind: FaultKind
    point: str
    rank: int | None = None
    step: int | None = None
    attempt: int = 1
    restart: int = 0
    times: int = 1


def parse_faults(text: str) -> list[Fault]:
    """Parse the value of SHARDLINE_FAULT.

    Raises:
        ValueError: A kind, point or condition is unknown.
    """
    return [_parse(entry) for entry in text.split(";") if entry.strip()]


def _parse(entry: str) -> Fault:
    what, *conditions = entry.strip().split(":")
    kind, _, point = what.partition("@")
    if kind not in get_args(FaultKind) or point not in POINTS:
        raise ValueError(
            f"{FAULT_VARIABLE}: unknown fault {what!r}, use KIND@POINT; kinds:"
            f" {', '.join(get_args(FaultKind))};"
            f" points: {', '.join(POINTS)}"
        )
    values: dict[str, int] = {}
    for condition in conditions:
        name, _, number = condition.partition("=")
        if name not in ("rank", "step", "attempt", "restart", "times") or not number.isdigit():
            raise ValueError(
                f"{FAULT_VARIABLE}: invalid condition {condition!r}; use NAME=NUMBER with rank, step, attempt"
                ", restart or times"
            )
        values[name] = int(number)
    return Fault(kind=kind, point=point, **values)  # type: ignore[arg-type]


class Faults:
    """Injects the faults of one rank; `hit` is called at every named point."""

    def __init__(
        self, faults: list[Fault], *, rank: int, attempt: int, restart: int, number: StepNumber | None = None
    ) -> None:
        """Select the faults of this rank and start.

        Args:
            faults: All requested faults.
            rank: The rank of this process.
            attempt: The current attempt.
            restart: The current start within the attempt.
            number: The current step, updated by the loop.
        """
        self._number = number or StepNumber()
        self._left = {
            number: (fault, fault.times)
            for number, fault in enumerate(faults)
            if fault.rank in (None, rank) and (fault.attempt, fault.restart) == (attempt, restart)
        }

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], *, rank: int, start: RankStart, number: StepNumber
    ) -> "Faults":
        """Read SHARDLINE_FAULT and select the faults of a rank in a start; usually none.

        Args:
            environ: Environment variables.
            rank: The rank of this process.
            start: The current attempt and start.
            number: The current step, updated by the loop.

        Raises:
            ValueError: A kind, point or condition is unknown.
        """
        return cls(
            parse_faults(environ.get(FAULT_VARIABLE, "")),
            rank=rank,
            attempt=start.attempt,
            restart=start.restart,
            number=number,
        )

    def hit(self, point: str, *, path: Path | None = None, step: int | None = None) -> bool:
        """Inject a fault at this point, if one is requested.

        Args:
            point: One of `POINTS`.
            path: The file that `bitflip` damages.
            step: Step of a save, which may be older than the loop's; default: the loop's step.

        Returns:
            Whether the caller should produce NaN.

        Raises:
            OSError: The fault is `enospc`.
            RuntimeError: The fault is `raise`.
        """
        if not self._left:
            return False
        at = self._number.value if step is None else step
        for number, (fault, times) in list(self._left.items()):
            if fault.point == point and fault.step in (None, at):
                self._left[number] = (fault, times - 1)
                if times <= 1:
                    del self._left[number]
                return _strike(fault, path)
        return False


def _strike(fault: Fault, path: Path | None) -> bool:
    if fault.kind == "nan":
        return True
    if fault.kind == "enospc":
        raise OSError(errno.ENOSPC, f"injected at {fault.point}: {os.strerror(errno.ENOSPC)}")
    if fault.kind == "raise":
        raise RuntimeError(f"injected at {fault.point}")
    if fault.kind == "slow":
        time.sleep(_SLOW_S)
    elif fault.kind == "hang":
        while True:
            time.sleep(3600)
    elif fault.kind == "bitflip" and path is not None:
        flip_one_bit(path)
    else:
        number = {"kill9": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
        os.kill(os.getpid(), number[fault.kind])
    return False


def flip_one_bit(path: Path) -> None:
    """Flip a bit in the middle of a file, as a failing disk might."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


NO_FAULTS = Faults([], rank=0, attempt=1, restart=0)

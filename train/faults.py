"""Faults on demand, for tests and drills: what breaks, where, on which rank, at which step. Torch-free.

    SHARDLINE_FAULT="kill9@save.shard:rank=1:step=20;enospc@save.manifest:step=30:restart=1"

Off unless the variable is set; then the log and the journal say so. A fault strikes once, in the attempt and
the start in place that it names (by default the first of each).
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
    """One fault, as it was asked for."""

    kind: FaultKind
    point: str
    rank: int | None = None
    step: int | None = None
    attempt: int = 1
    restart: int = 0
    times: int = 1


def parse_faults(text: str) -> list[Fault]:
    """Faults from the variable's text.

    Raises:
        ValueError: a kind, a point or a condition does not exist.
    """
    return [_parse(entry) for entry in text.split(";") if entry.strip()]


def _parse(entry: str) -> Fault:
    what, *conditions = entry.strip().split(":")
    kind, _, point = what.partition("@")
    if kind not in get_args(FaultKind) or point not in POINTS:
        raise ValueError(
            f"{FAULT_VARIABLE}: {what!r} is no fault; kinds: {', '.join(get_args(FaultKind))};"
            f" points: {', '.join(POINTS)}"
        )
    values: dict[str, int] = {}
    for condition in conditions:
        name, _, number = condition.partition("=")
        if name not in ("rank", "step", "attempt", "restart", "times") or not number.isdigit():
            raise ValueError(
                f"{FAULT_VARIABLE}: {condition!r} is no condition; use rank, step, attempt, restart or times"
            )
        values[name] = int(number)
    return Fault(kind=kind, point=point, **values)  # type: ignore[arg-type]


class Faults:
    """The faults of one rank; `hit` is called at every named point."""

    def __init__(
        self, faults: list[Fault], *, rank: int, attempt: int, restart: int, number: StepNumber | None = None
    ) -> None:
        """Keep the faults that concern this rank in this start; `number` is the step that it is at."""
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
        """Read SHARDLINE_FAULT and keep what it asks of a rank in one of its starts; usually nothing."""
        return cls(
            parse_faults(environ.get(FAULT_VARIABLE, "")),
            rank=rank,
            attempt=start.attempt,
            restart=start.restart,
            number=number,
        )

    def hit(self, point: str, *, path: Path | None = None, step: int | None = None) -> bool:
        """Let a fault of this point strike.

        Args:
            point: One of `POINTS`.
            path: The file that the point is about, for `bitflip`.
            step: Of a save, which the loop may have left behind.

        Returns:
            Whether numbers are to become NaN here.

        Raises:
            OSError: a full disk was asked for.
            RuntimeError: an exception was asked for.
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
    """Damage a file as a failing disk does: silently, in its middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


NO_FAULTS = Faults([], rank=0, attempt=1, restart=0)

"""Heartbeats of ranks, which the node agent reads to detect hangs. Torch-free.

A heartbeat is one write of a few bytes to a file on the node's disk, which can be read while the rank hangs.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from train.step_number import StepNumber

HEARTBEAT_VARIABLE = "SHARDLINE_HEARTBEATS"
"""Variable with the folder of this node's heartbeats."""
_WIDTH = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The last heartbeat of one rank."""

    rank: int
    pid: int
    at_s: float
    """Time of the heartbeat by time.monotonic(), which all processes of a node share."""
    steady: bool
    """Whether the rank is within regular steps; start, save and assessment may take longer."""
    step: int
    phase: str


class Heartbeat:
    """Writes the heartbeats of one rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Open this rank's file and write the first heartbeat."""
        self._file = os.open(folder / f"rank_{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.number = StepNumber()
        """The current step, written into every heartbeat."""
        self.warm = False
        """Whether a step was completed: the first one may take long, for instance to compile."""
        self.beat("start")

    def beat(self, phase: str) -> None:
        """Begin a phase that may take long: a start, a save or an assessment."""
        self._write(phase, steady=False)

    def tick(self, phase: str) -> None:
        """Begin the next part of a step."""
        self._write(phase, steady=self.warm)

    def _write(self, phase: str, *, steady: bool) -> None:
        line = f"{os.getpid()} {time.monotonic():.3f} {int(steady)} {self.number.value} {phase}"
        os.pwrite(self._file, line[: _WIDTH - 1].ljust(_WIDTH - 1).encode() + b"\n", 0)


def read_beats(folder: Path) -> list[Beat]:
    """Return the last heartbeat of every started rank, sorted by rank."""
    beats = []
    for path in folder.glob("rank_*"):
        words = path.read_text().split(maxsplit=4)
        if len(words) == 5:
            pid, at_s, steady, step, phase = words
            beats.append(
                Beat(
                    rank=int(path.name.removeprefix("rank_")),
                    pid=int(pid),
                    at_s=float(at_s),
                    steady=steady == "1",
                    step=int(step),
                    phase=phase.strip(),
                )
            )
    return sorted(beats, key=lambda beat: beat.rank)

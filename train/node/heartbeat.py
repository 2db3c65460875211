"""What a rank is doing, written where its node agent can see it at any moment. Torch-free.

One write of a few bytes into a file on the node's own disk: who hangs cannot be asked, only looked at.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from train.step_number import StepNumber

HEARTBEAT_VARIABLE = "SHARDLINE_HEARTBEATS"
"""Names the folder of this node's heartbeats."""
_WIDTH = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The last sign of life of one rank."""

    rank: int
    pid: int
    at_s: float
    """time.monotonic(), which all processes of a node share."""
    steady: bool
    """In the middle of training, where steps take alike; starting, saving and assessing take longer."""
    step: int
    phase: str


class Heartbeat:
    """A rank's side."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Open this rank's file and give the first sign."""
        self._file = os.open(folder / f"rank_{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.number = StepNumber()
        """Written into every beat."""
        self.warm = False
        """Whether a step was made: the first one may compile and take long."""
        self.beat("start")

    def beat(self, phase: str) -> None:
        """Something begins that may take long: a start, a save, an assessment."""
        self._write(phase, steady=False)

    def tick(self, phase: str) -> None:
        """The next part of a step begins."""
        self._write(phase, steady=self.warm)

    def _write(self, phase: str, *, steady: bool) -> None:
        line = f"{os.getpid()} {time.monotonic():.3f} {int(steady)} {self.number.value} {phase}"
        os.pwrite(self._file, line[: _WIDTH - 1].ljust(_WIDTH - 1).encode() + b"\n", 0)


def read_beats(folder: Path) -> list[Beat]:
    """The last beat of every rank that has started, by rank."""
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

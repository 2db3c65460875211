"""Where a run stands, and on what its states depend. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path

from train.checkpoint.manifest import Manifest

PROGRESS = "progress.json"
"""Name of the counters inside a checkpoint."""


@dataclass(slots=True)
class Progress:
    """Where a run stands; travels inside every checkpoint."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    loss: float | None = None
    """Of the newest logged step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """On what the states of a checkpoint depend besides the model."""

    world_size: int
    zero_stage: int
    precision: str

    @property
    def plain(self) -> bool:
        """Without ZeRO every rank holds everything: their number does not matter."""
        return self.zero_stage == 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume found."""

    progress: Progress
    converted_from: Shape | None = None
    """Set when the checkpoint was another shape's."""


def shape_of(manifest: Manifest) -> Shape:
    """The shape that a checkpoint was saved in."""
    return Shape(world_size=manifest.world_size, zero_stage=manifest.zero_stage, precision=manifest.precision)


def read_progress(checkpoint: Path) -> Progress:
    """The counters of a verified checkpoint."""
    return Progress(**json.loads((checkpoint / PROGRESS).read_text()))

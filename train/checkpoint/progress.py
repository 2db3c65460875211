"""Where a run stands, and on what its states depend. Torch-free."""

import json
import math
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
    stale_validations: int = 0
    """Validations in a row that were no better than the best before them."""
    loss: float | None = None
    """Of the newest logged step."""

    def count_step(self, *, samples: int, tokens: int) -> None:
        """Count a global batch that was trained."""
        self.step += 1
        self.samples += samples
        self.tokens += tokens

    def note_validation(self, loss: float) -> bool:
        """Count a validation of this step; whether it is the best so far. NaN and infinity never are."""
        improved = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss)
        if improved:
            self.best_loss, self.best_step = loss, self.step
        self.stale_validations = 0 if improved else self.stale_validations + 1
        return improved

    def is_stale(self, patience: int | None) -> bool:
        """Whether so many validations in a row (None: any number) were no better."""
        return patience is not None and self.stale_validations >= patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """On what the states of a checkpoint depend besides the model."""

    world_size: int
    zero_stage: int
    precision: str

    @property
    def unsharded(self) -> bool:
        """Without ZeRO every rank holds everything: their number does not matter."""
        return self.zero_stage == 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume found."""

    progress: Progress
    converted_from: Topology | None = None
    """Set when the checkpoint had another topology."""


def topology_of(manifest: Manifest) -> Topology:
    """The topology that a checkpoint was saved in."""
    return Topology(
        world_size=manifest.world_size, zero_stage=manifest.zero_stage, precision=manifest.precision
    )


def read_progress(checkpoint: Path) -> Progress:
    """The counters of a verified checkpoint."""
    return Progress(**json.loads((checkpoint / PROGRESS).read_text()))

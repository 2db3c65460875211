"""The progress of a run and the topology of its states. Torch-free."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from train.checkpoint.manifest import Manifest

PROGRESS = "progress.json"
"""Name of the file with the progress inside a checkpoint."""


@dataclass(slots=True)
class Progress:
    """The progress of a run, stored in every checkpoint."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    stale_validations: int = 0
    """Number of validations in a row without an improvement."""
    loss: float | None = None
    """The loss of the newest logged step."""

    def count_step(self, *, samples: int, tokens: int) -> None:
        """Count one trained global batch."""
        self.step += 1
        self.samples += samples
        self.tokens += tokens

    def note_validation(self, loss: float) -> bool:
        """Count a validation; returns whether it is the best so far. NaN and infinity never are."""
        improved = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss)
        if improved:
            self.best_loss, self.best_step = loss, self.step
        self.stale_validations = 0 if improved else self.stale_validations + 1
        return improved

    def is_stale(self, patience: int | None) -> bool:
        """Return whether `patience` validations in a row had no improvement; always False for None."""
        return patience is not None and self.stale_validations >= patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The settings that determine the layout of a checkpoint's states, besides the model."""

    world_size: int
    zero_stage: int
    precision: str

    @property
    def unsharded(self) -> bool:
        """Whether every rank holds all states (no ZeRO), so that any number of ranks can load them."""
        return self.zero_stage == 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of a resume."""

    progress: Progress
    converted_from: Topology | None = None
    """The topology of the checkpoint, if it differed from the one of this run."""


def topology_of(manifest: Manifest) -> Topology:
    """Return the topology in which a checkpoint was saved."""
    return Topology(
        world_size=manifest.world_size, zero_stage=manifest.zero_stage, precision=manifest.precision
    )


def read_progress(checkpoint: Path) -> Progress:
    """Read the progress from a verified checkpoint."""
    return Progress(**json.loads((checkpoint / PROGRESS).read_text()))

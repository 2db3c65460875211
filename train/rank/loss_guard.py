"""Numbers gone bad: gradients that are not finite, losses that jump. Decides; the loop acts. Torch-free.

What it decides depends on what all ranks see alike, so all of them decide the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from train.config import TrainConfig

MAX_ROLLBACKS = 3
_SETTLED_AFTER = 20
"""Losses before a jump can be told from a start."""
_MEMORY = 0.95
_DEVIATIONS = 8.0
_SHARE = 0.3

Window = tuple[int, int]
"""First and last number of global batches that are left out."""


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """What a step came to."""

    kind: Literal["fine", "skipped", "spike"]
    roll_back: bool
    reason: str = ""
    bad_steps: int = 0
    """How many of the newest steps were bad."""


class LossGuard:
    """Watches one attempt's steps."""

    def __init__(self, config: TrainConfig) -> None:
        """Rules from the config."""
        self._config = config
        self._bad = 0
        self._seen = 0
        self._mean = self._deviation = 0.0

    def judge(self, *, applied: bool, loss: float | None) -> StepVerdict:
        """One step.

        Args:
            applied: Whether the weights were updated: not with a gradient that is NaN or infinite anywhere.
            loss: Mean over the global batch; None where it was not computed.
        """
        if not applied or (loss is not None and not math.isfinite(loss)):
            self._bad += 1
            reason = f"gradients were not finite in {self._bad} step(s) in a row"
            return StepVerdict("skipped", self._bad >= self._config.bad_steps, reason, self._bad)
        self._bad = 0
        if loss is None:
            return StepVerdict("fine", roll_back=False)
        if self._is_spike(loss):
            reason = f"the loss jumped to {loss:.3f} from about {self._mean:.3f}"
            return StepVerdict("spike", self._config.spike == "rollback", reason, 1)
        self._learn(loss)
        return StepVerdict("fine", roll_back=False)

    def _is_spike(self, loss: float) -> bool:
        if self._config.spike == "none" or self._seen < _SETTLED_AFTER:
            return False
        return loss - self._mean > max(_DEVIATIONS * self._deviation, _SHARE * abs(self._mean))

    def _learn(self, loss: float) -> None:
        weight = 1 - _MEMORY if self._seen else 1.0
        self._deviation += weight * (abs(loss - self._mean) - self._deviation) if self._seen else 0.0
        self._mean += weight * (loss - self._mean)
        self._seen += 1


def batch_number(step: int, skipped: Sequence[Window]) -> int:
    """Which global batch a step takes: the `step`-th that no window leaves out."""
    number = step
    for first, last in sorted(skipped):
        if number >= first:
            number += last - first + 1
    return number

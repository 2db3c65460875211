"""Detects bad steps: gradients that are not finite and jumps of the loss. Torch-free.

The verdict depends only on values that are equal on all ranks, so all ranks reach the same verdict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from train.config import TrainConfig

MAX_ROLLBACKS = 3
"""Rollbacks of one run, after which it fails."""
_SETTLED_AFTER = 20
"""Number of losses seen before spikes are detected: early losses change quickly."""
_MEMORY = 0.95
_DEVIATIONS = 8.0
_SHARE = 0.3

Window = tuple[int, int]
"""First and last number of the global batches that are skipped."""


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """The verdict on one step."""

    kind: Literal["fine", "skipped", "spike"]
    roll_back: bool
    reason: str = ""
    bad_steps: int = 0
    """Number of bad steps in a row, up to this one."""


class LossGuard:
    """Judges the steps of one attempt."""

    def __init__(self, config: TrainConfig) -> None:
        """Read the rules from `config`."""
        self._config = config
        self._bad = 0
        self._seen = 0
        self._mean = self._deviation = 0.0

    def judge(self, *, applied: bool, loss: float | None) -> StepVerdict:
        """Return the verdict on one step.

        Args:
            applied: Whether the weights were updated; False if any gradient was NaN or infinite.
            loss: The mean loss over the global batch; None if it was not computed.
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
    """Return the number of the global batch for a step: the `step`-th batch outside all skipped windows."""
    number = step
    for first, last in sorted(skipped):
        if number >= first:
            number += last - first + 1
    return number

"""Which rows make up which global batch, from one counter. Torch-free.

The order depends on the seed alone: not on ranks, micro-batches or attempts. A position is reached by
arithmetic, never by replaying what came before it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from train.batch import BatchPlan
from train.config import TrainConfig

FILLER = -1
"""Stands for no row, where the last batch is smaller than the others or ranks must do equal work."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Global batches over shuffled epochs, `total_samples` in all."""

    rows: int
    global_batch_size: int
    seed: int
    total_samples: int

    @property
    def total_steps(self) -> int:
        """Global batches; the last one may be smaller."""
        return math.ceil(self.total_samples / self.global_batch_size)

    def batch(self, step: int, number: int | None = None) -> list[int]:
        """Row numbers of the global batch of a step, in order.

        Args:
            step: 1-based; the last one may be smaller than the others.
            number: The batch to take when batches were left out before; the step's own otherwise.
        """
        size = min(self.global_batch_size, self.total_samples - (step - 1) * self.global_batch_size)
        start = ((number or step) - 1) * self.global_batch_size
        stop = start + size
        return [
            int(_permutation(self.rows, self.seed, position // self.rows)[position % self.rows])
            for position in range(start, stop)
        ]


@lru_cache(maxsize=4)
def _permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def plan_samples(train: TrainConfig, tokens_per_row: np.ndarray, seed: int) -> int:
    """Samples until the first limit of `max_steps`, `epochs` and `max_tokens` is reached."""
    rows = len(tokens_per_row)
    limits = []
    if train.max_steps is not None:
        limits.append(train.max_steps * train.global_batch_size)
    if train.epochs is not None:
        limits.append(max(1, round(train.epochs * rows)))
    if train.max_tokens is not None:
        limits.append(_samples_for_tokens(train, tokens_per_row, seed))
    return min(limits)


def _samples_for_tokens(train: TrainConfig, tokens_per_row: np.ndarray, seed: int) -> int:
    """Whole global batches that hold at least `max_tokens` tokens."""
    wanted = train.max_tokens or 0
    whole_epochs, rest = divmod(wanted, int(tokens_per_row.sum()))
    order = _permutation(len(tokens_per_row), seed, whole_epochs)
    samples = whole_epochs * len(tokens_per_row)
    samples += int(np.searchsorted(np.cumsum(tokens_per_row[order]), rest)) + 1 if rest else 0
    return math.ceil(samples / train.global_batch_size) * train.global_batch_size


def share_out(
    sample_ids: list[int], tokens_per_row: np.ndarray, batch: BatchPlan, rank: int
) -> list[list[int]]:
    """This rank's micro-batches of a global batch: `accumulation` lists of `micro_batch_size` rows.

    Rows of like length travel together, so that little is padding. The loss is a sum over the whole global
    batch, so which rank takes which row changes no result. Missing rows become `FILLER`.
    """
    ordered = sorted(sample_ids, key=lambda row: (-int(tokens_per_row[row]), row))
    ordered += [FILLER] * (batch.global_batch_size - len(ordered))
    per_step = batch.sequences_per_micro_step
    return [
        ordered[start + rank : start + per_step : batch.world_size]
        for start in range(0, batch.global_batch_size, per_step)
    ]

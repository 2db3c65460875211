"""Which sequences make up which global batch, from one counter. Torch-free.

The order depends on the seed and the data alone: not on ranks, micro-batches or attempts. A position is
reached by arithmetic, never by replaying what came before it. A sequence is one document, or several packed.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from train.batch import BatchPlan
from train.config import TrainConfig

FILLER = -1
"""Stands for no sequence, where the last batch is smaller than the others or ranks must do equal work."""
_WINDOW_BATCHES = 50
"""Global batches whose sequences are sorted by length together."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """In which order each epoch takes the sequences."""

    tokens: np.ndarray
    """Of each sequence."""
    seed: int
    group_by: int | None = None
    """Global batch size, where batches are to hold sequences of like length."""

    def epoch(self, number: int) -> np.ndarray:
        """All sequences, in the order of an epoch (from 0)."""
        return _epoch(self, number)


@lru_cache(maxsize=4)
def _epoch(order: Order, number: int) -> np.ndarray:
    generator = np.random.default_rng([order.seed, number])
    shuffled = generator.permutation(len(order.tokens))
    if order.group_by is None:
        return shuffled
    return _grouped(shuffled, order.tokens, order.group_by, number, generator)


def _grouped(
    shuffled: np.ndarray, tokens: np.ndarray, size: int, epoch: int, generator: np.random.Generator
) -> np.ndarray:
    """Sort windows of shuffled sequences by length, cut them into batches and shuffle those.

    Batches go through epochs without a gap, so an epoch begins and ends in the middle of one; these two parts
    stay as they were drawn.
    """
    head = min(-epoch * len(shuffled) % size, len(shuffled))
    batches = (len(shuffled) - head) // size
    if not batches:
        return shuffled
    whole = shuffled[head : head + batches * size]
    # One window over a small set would put the same sequences together in every epoch.
    window = min(_WINDOW_BATCHES, max(1, batches // 4)) * size
    windows = [whole[start : start + window] for start in range(0, len(whole), window)]
    by_length = [part[np.argsort(tokens[part], kind="stable")] for part in windows]
    grouped = generator.permutation(np.concatenate(by_length).reshape(batches, size)).reshape(-1)
    return np.concatenate([shuffled[:head], grouped, shuffled[head + len(whole) :]])


@dataclass(frozen=True, slots=True)
class Sampler:
    """Global batches over shuffled epochs, `total_sequences` in all."""

    order: Order
    global_batch_size: int
    total_sequences: int

    @property
    def total_steps(self) -> int:
        """Global batches; the last one may be smaller."""
        return math.ceil(self.total_sequences / self.global_batch_size)

    def batch(self, step: int, number: int | None = None) -> list[int]:
        """The sequences of the global batch of a step, in order.

        Args:
            step: 1-based; the last one may be smaller than the others.
            number: The batch to take when batches were left out before; the step's own otherwise.
        """
        size = min(self.global_batch_size, self.total_sequences - (step - 1) * self.global_batch_size)
        start = ((number or step) - 1) * self.global_batch_size
        sequences = len(self.order.tokens)
        return [
            int(self.order.epoch(position // sequences)[position % sequences])
            for position in range(start, start + size)
        ]


def plan_sequences(train: TrainConfig, order: Order) -> int:
    """Sequences until the first limit of `max_steps`, `epochs` and `max_tokens` is reached."""
    limits = []
    if train.max_steps is not None:
        limits.append(train.max_steps * train.global_batch_size)
    if train.epochs is not None:
        limits.append(max(1, round(train.epochs * len(order.tokens))))
    if train.max_tokens is not None:
        limits.append(_sequences_for_tokens(train.max_tokens, train.global_batch_size, order))
    return min(limits)


def _sequences_for_tokens(max_tokens: int, global_batch_size: int, order: Order) -> int:
    """Whole global batches that hold at least `max_tokens` tokens."""
    whole_epochs, rest = divmod(max_tokens, int(order.tokens.sum()))
    sequences = whole_epochs * len(order.tokens)
    if rest:
        reached = np.cumsum(order.tokens[order.epoch(whole_epochs)])
        sequences += int(np.searchsorted(reached, rest)) + 1
    return math.ceil(sequences / global_batch_size) * global_batch_size


def assign_micro_batches(
    sequences: list[int], tokens: np.ndarray, batch: BatchPlan, rank: int
) -> list[list[int]]:
    """This rank's micro-batches of a global batch: `accumulation` lists of `micro_batch_size` sequences.

    Sequences of like length travel together, so that little is padding. The loss is a sum over the whole
    global batch, so which rank takes which one changes no result. Missing ones become `FILLER`.

    Args:
        sequences: Those of the global batch.
        tokens: Of every sequence there is.
        batch: How a global batch is shared out.
        rank: Whose part is wanted.
    """
    ordered = sorted(sequences, key=lambda sequence: (-int(tokens[sequence]), sequence))
    ordered += [FILLER] * (batch.global_batch_size - len(ordered))
    per_step = batch.sequences_per_micro_step
    return [
        ordered[start + rank : start + per_step : batch.world_size]
        for start in range(0, batch.global_batch_size, per_step)
    ]

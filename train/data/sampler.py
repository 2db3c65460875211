"""Chooses the sequences of each global batch from the step number. Torch-free.

The order depends only on the seed and the data, not on ranks, micro-batches or attempts. A position is
computed and needs no replay of earlier steps. A sequence is one document or several packed documents.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from train.batch import BatchPlan
from train.config import TrainConfig

FILLER = -1
"""Placeholder without a sequence, which fills a smaller last batch or equalises the work of ranks."""
_WINDOW_BATCHES = 50
"""Number of global batches whose sequences are sorted by length together."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The order of the sequences in each epoch."""

    tokens: np.ndarray
    """Number of tokens of each sequence."""
    seed: int
    group_by: int | None = None
    """The global batch size, if batches should hold sequences of similar length; else None."""

    def epoch(self, number: int) -> np.ndarray:
        """Return all sequences in the order of an epoch, counted from 0."""
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
    """Sort windows of shuffled sequences by length, divide them into batches and shuffle the batches.

    Batches may span two epochs: the incomplete batches at the start and end of an epoch keep their
    shuffled order.
    """
    head = min(-epoch * len(shuffled) % size, len(shuffled))
    batches = (len(shuffled) - head) // size
    if not batches:
        return shuffled
    whole = shuffled[head : head + batches * size]
    # A single window over a small set would form the same batches in every epoch.
    window = min(_WINDOW_BATCHES, max(1, batches // 4)) * size
    windows = [whole[start : start + window] for start in range(0, len(whole), window)]
    by_length = [part[np.argsort(tokens[part], kind="stable")] for part in windows]
    grouped = generator.permutation(np.concatenate(by_length).reshape(batches, size)).reshape(-1)
    return np.concatenate([shuffled[:head], grouped, shuffled[head + len(whole) :]])


@dataclass(frozen=True, slots=True)
class Sampler:
    """Global batches over shuffled epochs, with `total_sequences` sequences in total."""

    order: Order
    global_batch_size: int
    total_sequences: int

    @property
    def total_steps(self) -> int:
        """The number of global batches; the last one may be smaller."""
        return math.ceil(self.total_sequences / self.global_batch_size)

    def batch(self, step: int, number: int | None = None) -> list[int]:
        """Return the sequences of the global batch of a step, in order.

        Args:
            step: The step, counted from 1; the batch of the last step may be smaller.
            number: The number of the batch; default: `step`. It differs once batches were skipped.
        """
        size = min(self.global_batch_size, self.total_sequences - (step - 1) * self.global_batch_size)
        start = ((number or step) - 1) * self.global_batch_size
        sequences = len(self.order.tokens)
        return [
            int(self.order.epoch(position // sequences)[position % sequences])
            for position in range(start, start + size)
        ]


def plan_sequences(train: TrainConfig, order: Order) -> int:
    """Return the number of sequences until the first of `max_steps`, `epochs` and `max_tokens` is reached."""
    limits = []
    if train.max_steps is not None:
        limits.append(train.max_steps * train.global_batch_size)
    if train.epochs is not None:
        limits.append(max(1, round(train.epochs * len(order.tokens))))
    if train.max_tokens is not None:
        limits.append(_sequences_for_tokens(train.max_tokens, train.global_batch_size, order))
    return min(limits)


def _sequences_for_tokens(max_tokens: int, global_batch_size: int, order: Order) -> int:
    """Return the number of sequences in the whole global batches that hold at least `max_tokens` tokens."""
    whole_epochs, rest = divmod(max_tokens, int(order.tokens.sum()))
    sequences = whole_epochs * len(order.tokens)
    if rest:
        reached = np.cumsum(order.tokens[order.epoch(whole_epochs)])
        sequences += int(np.searchsorted(reached, rest)) + 1
    return math.ceil(sequences / global_batch_size) * global_batch_size


def assign_micro_batches(
    sequences: list[int], tokens: np.ndarray, batch: BatchPlan, rank: int
) -> list[list[int]]:
    """Return a rank's micro-batches of a global batch: `accumulation` lists of `micro_batch_size` sequences.

    Sequences of similar length share a micro-batch, which saves padding. The loss is a sum over the global
    batch, so the assignment to ranks does not change the result. Missing sequences become `FILLER`.

    Args:
        sequences: The sequences of the global batch.
        tokens: Number of tokens of every sequence in the training set.
        batch: The division of a global batch among ranks.
        rank: The rank.
    """
    ordered = sorted(sequences, key=lambda sequence: (-int(tokens[sequence]), sequence))
    ordered += [FILLER] * (batch.global_batch_size - len(ordered))
    per_step = batch.sequences_per_micro_step
    return [
        ordered[start + rank : start + per_step : batch.world_size]
        for start in range(0, batch.global_batch_size, per_step)
    ]

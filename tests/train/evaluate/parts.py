"""A set of rows and a model of it that scores each row by a table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from train.data.collate import Batch
from train.data.render import IGNORED
from train.data.sampler import FILLER

WIDTH = 8
"""Tokens that a row has in a batch."""


class Rows:
    """Rows by number: their tokens and, for classes, their labels."""

    def __init__(self, tokens: Sequence[int], labels: Sequence[int] | None = None) -> None:
        self.tokens = np.array(tokens)
        self.numbers = np.arange(len(tokens))
        self._labels = labels

    def collate(self, numbers: Sequence[int], device: torch.device) -> Batch:
        ids = torch.tensor([[number] * WIDTH for number in numbers])
        if self._labels is not None:
            labels = [IGNORED if number == FILLER else self._labels[number] for number in numbers]
            return Batch(ids, torch.tensor(labels))
        trained = [0 if number == FILLER else int(self.tokens[number]) for number in numbers]
        places = [row * WIDTH + token for row, count in enumerate(trained) for token in range(count)]
        return Batch(ids, torch.zeros(len(places)), torch.tensor(places, dtype=torch.int64))


class TableEngine:
    """Scores the rows of `Rows` by a table: a loss per token, or the class that is guessed."""

    def __init__(self, table: Sequence[Any], classes: int = 0) -> None:
        self._table = table
        self._classes = classes
        self.batches: list[list[int]] = []
        self.is_evaluating = False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        self.is_evaluating = True
        yield
        self.is_evaluating = False

    def _rows(self, batch: Batch) -> list[int]:
        assert self.is_evaluating
        numbers = [int(row[0]) for row in batch.input_ids_BT]
        self.batches.append(numbers)
        return numbers

    def row_losses(self, batch: Batch) -> torch.Tensor:
        numbers = self._rows(batch)
        assert batch.target_positions_N is not None
        counts = torch.bincount(batch.target_positions_N // WIDTH, minlength=len(numbers))
        return counts * torch.tensor([0.0 if row == FILLER else self._table[row] for row in numbers])

    def logits(self, batch: Batch) -> torch.Tensor:
        guesses = [0 if row == FILLER else self._table[row] for row in self._rows(batch)]
        return torch.nn.functional.one_hot(torch.tensor(guesses), self._classes).float()

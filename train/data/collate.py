"""Rows to padded tensors.

Shape legend: B rows of a micro-batch, T tokens of its longest row (rounded up to `_MULTIPLE`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.data.render import IGNORED
from train.data.sampler import FILLER

_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass."""

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    labels: torch.Tensor
    """BT for decoders, B for classification; `IGNORED` is not trained."""


class TokenSet:
    """A prepared data file, or a part of it: rows by their number in the file, and how long each is."""

    def __init__(
        self, dataset: Any, *, pad_id: int, labels_per_token: bool, numbers: np.ndarray | None = None
    ) -> None:
        """Keep the memory-mapped rows on disk and only their lengths in memory.

        Args:
            dataset: As `prepare` returns it.
            pad_id: Token that fills rows up.
            labels_per_token: Labels are per token (decoders) rather than per row.
            numbers: The rows of the file that belong to the set; all of them by default.
        """
        self._dataset = dataset
        self._pad_id = pad_id
        self._labels_per_token = labels_per_token
        self.tokens = np.asarray(dataset["tokens"], dtype=np.int64)
        """Of every row of the file, in its order."""
        self.trained_tokens = np.asarray(dataset["trained_tokens"], dtype=np.int64)
        """Likewise."""
        self.numbers = np.arange(len(self.tokens)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def collate(self, rows: Sequence[int], device: torch.device) -> Batch:
        """Pad rows on the right to one length; a `FILLER` becomes one token that is not trained."""
        filler: dict[str, Any] = {
            "input_ids": [self._pad_id],
            "labels": [IGNORED] if self._labels_per_token else IGNORED,
        }
        entries = [filler if row == FILLER else self._dataset[row] for row in rows]
        ids = [entry["input_ids"] for entry in entries]
        labels = [entry["labels"] for entry in entries]
        length = -(-max(map(len, ids)) // _MULTIPLE) * _MULTIPLE

        def padded(values: list[list[int]], fill: int) -> torch.Tensor:
            rectangle = [value + [fill] * (length - len(value)) for value in values]
            return torch.tensor(rectangle).to(device, non_blocking=True)

        return Batch(
            padded(ids, self._pad_id),
            padded([[1] * len(row_ids) for row_ids in ids], 0),
            padded(labels, IGNORED) if self._labels_per_token else torch.tensor(labels, device=device),
        )

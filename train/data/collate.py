"""Documents to padded tensors, one in a row or several.

Shape legend: B rows of a micro-batch, T tokens of its longest row (rounded up to `_MULTIPLE`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.data.prepare import column
from train.data.render import IGNORED
from train.data.sampler import FILLER

_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass."""

    input_ids_BT: torch.Tensor
    labels: torch.Tensor
    """BT for decoders, B for classification; `IGNORED` is not trained."""
    attention_mask_BT: torch.Tensor | None = None
    """1 for tokens, 0 for padding; None where rows hold several documents."""
    position_ids_BT: torch.Tensor | None = None
    """Starts again at 0 with each document, by which transformers tells them apart; None for one in a row."""

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What the model's forward is called with, besides labels."""
        if self.position_ids_BT is not None:
            return {"input_ids": self.input_ids_BT, "position_ids": self.position_ids_BT}
        assert self.attention_mask_BT is not None
        return {"input_ids": self.input_ids_BT, "attention_mask": self.attention_mask_BT}


class TokenSet:
    """A prepared data file, or a part of it: documents by their number, and how long each is.

    A document is a row, by its number in the file; where long rows were split, the pieces of all rows are
    numbered through.
    """

    def __init__(
        self, dataset: Any, *, pad_id: int, labels_per_token: bool, numbers: np.ndarray | None = None
    ) -> None:
        """Keep the memory-mapped documents on disk and only their lengths in memory.

        Args:
            dataset: As `prepare` returns it.
            pad_id: Token that fills rows up.
            labels_per_token: Labels are per token (decoders) rather than per document.
            numbers: The documents of the file that belong to the set; all of them by default.
        """
        self._dataset = dataset
        self._pad_id = pad_id
        self._labels_per_token = labels_per_token
        self.tokens = column(dataset, "tokens").astype(np.int64)
        """Of every document of the file, in its order."""
        self.trained_tokens = column(dataset, "trained_tokens").astype(np.int64)
        """Likewise."""
        self.numbers = np.arange(len(self.tokens)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def overlong_rows(self) -> int:
        """Rows, of those that the documents come from, that had more tokens than a document may have."""
        overlong = column(self._dataset, "overlong")[self.numbers]
        return len(np.unique(column(self._dataset, "row")[self.numbers][overlong]))

    def collate(self, documents: Sequence[int], device: torch.device) -> Batch:
        """One document in a row, padded on the right; a `FILLER` becomes one token that is not trained."""
        entries = [self._document(document) for document in documents]
        ids = [entry["input_ids"] for entry in entries]
        labels = [entry["labels"] for entry in entries]
        return Batch(
            _padded(ids, self._pad_id, device),
            _padded(labels, IGNORED, device)
            if self._labels_per_token
            else torch.tensor(labels, device=device),
            attention_mask_BT=_padded([[1] * len(row) for row in ids], 0, device),
        )

    def collate_packs(
        self, packs: Sequence[Sequence[int]], device: torch.device, *, one_row: bool = False
    ) -> Batch:
        """Several documents of a decoder in a row, none of which sees or predicts another.

        Args:
            packs: The documents of each row.
            device: Where the tensors go.
            one_row: Join all packs, B = 1: the form in which flash attention takes documents of any length,
                without padding between them.
        """
        if one_row:
            packs = [[document for pack in packs for document in pack]]
        rows = [[self._document(document) for document in pack] for pack in packs]

        def joined(values: Callable[[dict[str, Any]], list[int]], fill: int) -> torch.Tensor:
            return _padded([[v for entry in row for v in values(entry)] for row in rows], fill, device)

        return Batch(
            joined(lambda entry: entry["input_ids"], self._pad_id),
            # What comes before a document's first token is another's end.
            joined(lambda entry: [IGNORED, *entry["labels"][1:]], IGNORED),
            # Every token of the padding is a document of its own.
            position_ids_BT=joined(lambda entry: [*range(len(entry["input_ids"]))], 0),
        )

    def _document(self, number: int) -> dict[str, Any]:
        if number == FILLER:
            return {
                "input_ids": [self._pad_id],
                "labels": [IGNORED] if self._labels_per_token else IGNORED,
            }
        document: dict[str, Any] = self._dataset[number]
        return document


def _padded(rows: list[list[int]], fill: int, device: torch.device) -> torch.Tensor:
    length = -(-max(map(len, rows)) // _MULTIPLE) * _MULTIPLE
    rectangle = [row + [fill] * (length - len(row)) for row in rows]
    return torch.tensor(rectangle).to(device, non_blocking=True)

"""Documents to padded tensors, one in a row or several.

What loss and flash attention would otherwise ask the device for, and wait, is worked out here, on the host:
which tokens are trained, and where documents end.

Shape legend: B rows of a micro-batch, T tokens of its longest row (rounded up to `_MULTIPLE`), N trained
tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from train.data.prepare import column
from train.data.render import IGNORED
from train.data.sampler import FILLER
from train.kernels.apply import documents_for_flash

_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass."""

    input_ids_BT: torch.Tensor
    labels: torch.Tensor
    """N for decoders, the trained tokens of all rows; B for classes, where `IGNORED` is not trained."""
    target_positions_N: torch.Tensor | None = None
    """Where a decoder predicts each label: at the token before it, rows counted one after another (B x T)."""
    attention_mask_BT: torch.Tensor | None = None
    """0 hides the padding of rows with a class. A decoder's comes last, where no token sees it: all are 1,
    and from a mask that hides nothing none of tokens x tokens is made. None where rows hold several of them.
    """
    position_ids_BT: torch.Tensor | None = None
    """Starts again at 0 with each document, by which transformers tells them apart; None for one in a row."""
    flash: Mapping[str, Any] = field(default_factory=dict)
    """What flash attention is told of documents, where all are in one row."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model's forward is called with, besides labels."""
        inputs: dict[str, Any] = {"input_ids": self.input_ids_BT, **self.flash}
        if self.attention_mask_BT is not None:
            inputs["attention_mask"] = self.attention_mask_BT
        if self.position_ids_BT is not None:
            inputs["position_ids"] = self.position_ids_BT
        return inputs


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
        ids_BT = _moved(_padded(ids, self._pad_id), device)
        if self._labels_per_token:
            targets = _targets(_padded(labels, IGNORED), device)
            return Batch(ids_BT, *targets, attention_mask_BT=torch.ones_like(ids_BT))
        mask = _padded([[1] * len(row) for row in ids], 0)
        return Batch(ids_BT, _moved(np.array(labels), device), attention_mask_BT=_moved(mask, device))

    def collate_packs(
        self, packs: Sequence[Sequence[int]], device: torch.device, *, flatten_packs: bool = False
    ) -> Batch:
        """Several documents of a decoder in a row, none of which sees or predicts another.

        Args:
            packs: The documents of each row.
            device: Where the tensors go.
            flatten_packs: Join all packs, B = 1: the form in which flash attention takes documents of any
                length, without padding between them.
        """
        if flatten_packs:
            packs = [[document for pack in packs for document in pack]]
        rows = [[self._document(document) for document in pack] for pack in packs]

        def joined(values: Callable[[dict[str, Any]], list[int]], fill: int) -> np.ndarray:
            return _padded([[v for entry in row for v in values(entry)] for row in rows], fill)

        # Every token of the padding is a document of its own.
        positions = joined(lambda entry: [*range(len(entry["input_ids"]))], 0)
        flash = {}
        if flatten_packs:
            limits = np.append(np.flatnonzero(positions == 0), positions.size).astype(np.int32)
            flash = documents_for_flash(_moved(limits, device), int(np.diff(limits).max()))
        return Batch(
            _moved(joined(lambda entry: entry["input_ids"], self._pad_id), device),
            # What comes before a document's first token is another's end.
            *_targets(joined(lambda entry: [IGNORED, *entry["labels"][1:]], IGNORED), device),
            position_ids_BT=_moved(positions, device),
            flash=flash,
        )

    def _document(self, number: int) -> dict[str, Any]:
        if number == FILLER:
            return {
                "input_ids": [self._pad_id],
                "labels": [IGNORED] if self._labels_per_token else IGNORED,
            }
        document: dict[str, Any] = self._dataset[number]
        return document


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    length = -(-max(map(len, rows)) // _MULTIPLE) * _MULTIPLE
    return np.array([row + [fill] * (length - len(row)) for row in rows])


def _targets(labels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels that are trained, N, and the positions before them, N."""
    following = np.full_like(labels, IGNORED)
    following[:, :-1] = labels[:, 1:]
    positions = np.flatnonzero(following != IGNORED)
    return _moved(following.ravel()[positions], device), _moved(positions, device)


def _moved(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """To a GPU from pinned memory, so that the host does not wait for what the GPU is doing."""
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

"""Collates documents into padded tensors, with one or several documents per row.

The positions of trained tokens and the ends of documents are computed here, on the host, so that the loss and
flash attention need no synchronisation with the device.

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
    """The tensors of one forward pass."""

    input_ids_BT: torch.Tensor
    labels: torch.Tensor
    """Decoders: the N trained tokens of all rows. Classification: the B class ids, or `IGNORED`."""
    target_positions_N: torch.Tensor | None = None
    """Position of the token before each label, which predicts it, in the flattened rows (B x T)."""
    attention_mask_BT: torch.Tensor | None = None
    """Mask that is 0 at the padding of classification rows. Decoder rows are padded at the end, where no
    token attends to it: their mask is all 1, from which no tokens x tokens mask is built. None with packing.
    """
    position_ids_BT: torch.Tensor | None = None
    """Positions that restart at 0 with each packed document, which separates them; None without packing."""
    flash: Mapping[str, Any] = field(default_factory=dict)
    """The limits of documents for flash attention, if all documents are in one row."""

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of the model's forward pass, without labels."""
        inputs: dict[str, Any] = {"input_ids": self.input_ids_BT, **self.flash}
        if self.attention_mask_BT is not None:
            inputs["attention_mask"] = self.attention_mask_BT
        if self.position_ids_BT is not None:
            inputs["position_ids"] = self.position_ids_BT
        return inputs


class TokenSet:
    """A prepared data file or a part of it: documents by number, and their lengths.

    A document is a row and has the row's number. If long rows are split, each piece is a document, and the
    pieces of all rows are numbered consecutively.
    """

    def __init__(
        self, dataset: Any, *, pad_id: int, labels_per_token: bool, numbers: np.ndarray | None = None
    ) -> None:
        """Keep the memory-mapped documents on disk and only their lengths in memory.

        Args:
            dataset: The dataset returned by `prepare`.
            pad_id: Id of the padding token.
            labels_per_token: Whether labels are per token (decoders) rather than per document.
            numbers: The documents of the file that belong to the set; default: all.
        """
        self._dataset = dataset
        self._pad_id = pad_id
        self._labels_per_token = labels_per_token
        self.tokens = column(dataset, "tokens").astype(np.int64)
        """Tokens of every document of the file, in file order."""
        self.trained_tokens = column(dataset, "trained_tokens").astype(np.int64)
        """Trained tokens of every document of the file, in file order."""
        self.numbers = np.arange(len(self.tokens)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def overlong_rows(self) -> int:
        """Return the number of rows in the set that had more tokens than data.max_length."""
        overlong = column(self._dataset, "overlong")[self.numbers]
        return len(np.unique(column(self._dataset, "row")[self.numbers][overlong]))

    def collate(self, documents: Sequence[int], device: torch.device) -> Batch:
        """Collate one document per row, padded on the right; a `FILLER` becomes one untrained token."""
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
        """Collate several documents of a decoder per row, none of which attends to or predicts another.

        Args:
            packs: The documents of each row.
            device: Device of the tensors.
            flatten_packs: Join all packs into one row (B = 1), as flash attention expects documents of
                different lengths without padding.
        """
        if flatten_packs:
            packs = [[document for pack in packs for document in pack]]
        rows = [[self._document(document) for document in pack] for pack in packs]

        def joined(values: Callable[[dict[str, Any]], list[int]], fill: int) -> np.ndarray:
            return _padded([[v for entry in row for v in values(entry)] for row in rows], fill)

        # Every padding token counts as a separate document.
        positions = joined(lambda entry: [*range(len(entry["input_ids"]))], 0)
        flash = {}
        if flatten_packs:
            limits = np.append(np.flatnonzero(positions == 0), positions.size).astype(np.int32)
            flash = documents_for_flash(_moved(limits, device), int(np.diff(limits).max()))
        return Batch(
            _moved(joined(lambda entry: entry["input_ids"], self._pad_id), device),
            # A document's first token must not be predicted from the end of the document before it.
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
    """Return the N trained labels and the N positions before them."""
    following = np.full_like(labels, IGNORED)
    following[:, :-1] = labels[:, 1:]
    positions = np.flatnonzero(following != IGNORED)
    return _moved(following.ravel()[positions], device), _moved(positions, device)


def _moved(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Move values to the device; to a GPU from pinned memory, so that the host does not wait for it."""
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

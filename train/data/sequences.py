"""The training documents as sequences, with one document each or several packed."""

from collections.abc import Sequence

import numpy as np
import torch

from train.config import DataConfig
from train.data.collate import Batch, TokenSet
from train.data.packing import Packs
from train.data.sampler import FILLER
from train.journal.parts import DataReport


class Sequences:
    """The training set by sequence."""

    def __init__(
        self, documents: TokenSet, packs: Packs | None = None, *, flatten_packs: bool = False
    ) -> None:
        """Form sequences from packs, or from single documents if there are no packs.

        Args:
            documents: The training set.
            packs: Packs of documents, by their index within the set.
            flatten_packs: See `TokenSet.collate_packs`.
        """
        self._documents = documents
        self._packs = packs
        self._flatten_packs = flatten_packs
        tokens, trained = (
            values[documents.numbers] for values in (documents.tokens, documents.trained_tokens)
        )
        self.tokens: np.ndarray = packs.sums(tokens) if packs else tokens
        """Number of tokens of every sequence, without padding."""
        self.trained_tokens: np.ndarray = packs.sums(trained) if packs else trained
        """Number of trained tokens of every sequence."""
        self.pairs: np.ndarray = packs.sums(tokens**2) if packs else tokens**2
        """Sum of the squared document lengths of every sequence, which determines the cost of attention."""

    def __len__(self) -> int:
        return len(self.tokens)

    def documents(self, sequences: Sequence[int]) -> list[int]:
        """Return the numbers of the documents in the given sequences, in order."""
        places = np.concatenate([self._packs[n] for n in sequences]) if self._packs else np.array(sequences)
        numbers: list[int] = self._documents.numbers[places].tolist()
        return numbers

    def collate(self, sequences: Sequence[int], device: torch.device) -> Batch:
        """Collate a micro-batch; a `FILLER` has no trained token."""
        parts = [[FILLER] if number == FILLER else self.documents([number]) for number in sequences]
        if self._packs is None:
            return self._documents.collate([document for [document] in parts], device)
        return self._documents.collate_packs(parts, device, flatten_packs=self._flatten_packs)


def report_on(sequences: Sequences, documents: TokenSet, data: DataConfig, rows: int) -> DataReport:
    """Count rows, documents, sequences and tokens of the training set.

    Args:
        sequences: The sequences that are trained.
        documents: The documents in these sequences.
        data: The data settings.
        rows: Number of training rows in the file.
    """
    tokens = int(sequences.tokens.sum())
    return DataReport(
        rows=rows,
        overlong=data.overlong,
        # A row that is not split is one document.
        overlong_rows=rows - len(documents) if data.overlong == "drop" else documents.overlong_rows(),
        documents=len(documents),
        sequences=len(sequences),
        tokens=tokens,
        fill=round(tokens / (len(sequences) * data.max_length), 4) if data.packing else None,
    )

"""The training documents as the sequences that global batches are made of: one in each, or packed."""

from collections.abc import Sequence

import numpy as np
import torch

from train.config import DataConfig
from train.data.collate import Batch, TokenSet
from train.data.packing import Packs
from train.data.sampler import FILLER
from train.journal.parts import DataReport


class Sequences:
    """What is trained on, by sequence."""

    def __init__(
        self, documents: TokenSet, packs: Packs | None = None, *, flatten_packs: bool = False
    ) -> None:
        """Without packs every document is a sequence.

        Args:
            documents: The training set.
            packs: Of its documents, counted within the set.
            flatten_packs: How packs are collated, see `TokenSet.collate_packs`.
        """
        self._documents = documents
        self._packs = packs
        self._flatten_packs = flatten_packs
        tokens, trained = (
            values[documents.numbers] for values in (documents.tokens, documents.trained_tokens)
        )
        self.tokens: np.ndarray = packs.sums(tokens) if packs else tokens
        """Of every sequence, without padding."""
        self.trained_tokens: np.ndarray = packs.sums(trained) if packs else trained
        """Likewise."""
        self.pairs: np.ndarray = packs.sums(tokens**2) if packs else tokens**2
        """Squares of the documents' lengths, summed: what attention works through."""

    def __len__(self) -> int:
        return len(self.tokens)

    def documents(self, sequences: Sequence[int]) -> list[int]:
        """Numbers of the documents of some sequences, in their order."""
        places = np.concatenate([self._packs[n] for n in sequences]) if self._packs else np.array(sequences)
        numbers: list[int] = self._documents.numbers[places].tolist()
        return numbers

    def collate(self, sequences: Sequence[int], device: torch.device) -> Batch:
        """Tensors of a micro-batch, in which a `FILLER` trains nothing."""
        parts = [[FILLER] if number == FILLER else self.documents([number]) for number in sequences]
        if self._packs is None:
            return self._documents.collate([document for [document] in parts], device)
        return self._documents.collate_packs(parts, device, flatten_packs=self._flatten_packs)


def report_on(sequences: Sequences, documents: TokenSet, data: DataConfig, rows: int) -> DataReport:
    """Count.

    Args:
        sequences: As they are trained.
        documents: What the sequences hold.
        data: What was asked for.
        rows: Rows of the file that were meant for training.
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

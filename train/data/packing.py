"""Packs documents into sequences of a given length with little unused space. Pure numpy, torch-free.

Best-fit decreasing: longest documents first, each into the open pack with the least space that fits it.
Documents of equal length are interchangeable, so groups of equal packs are filled at once: the cost depends
on the number of lengths, not of documents.
"""

from dataclasses import dataclass

import numpy as np

_Shape = tuple[tuple[int, int], ...]
"""The contents of a pack: pairs of a document length and the number of documents of that length."""


@dataclass(frozen=True, slots=True)
class Packs:
    """The documents of each packed sequence."""

    documents: np.ndarray
    """Numbers of the documents, pack after pack."""
    starts: np.ndarray
    """Index in `documents` at which each pack begins, followed by the total number of documents."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """Return the documents of one pack, in order."""
        return self.documents[self.starts[number] : self.starts[number + 1]]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sums over each pack of a value per document."""
        totals: np.ndarray = np.add.reduceat(values[self.documents], self.starts[:-1])
        return totals


def pack_documents(tokens: np.ndarray, *, capacity: int, seed: int) -> Packs:
    """Assign every document to a pack.

    The number of packs and the lengths in each depend only on the documents' lengths; the seed distributes
    documents of equal length.

    Args:
        tokens: Number of tokens of each document, at least 1.
        capacity: Maximum number of tokens in a pack.
        seed: Seed for shuffling documents of equal length.

    Raises:
        ValueError: A document is empty or longer than a pack, or there are no documents.
    """
    if not len(tokens) or int(tokens.max()) > capacity or int(tokens.min()) < 1:
        raise ValueError(f"documents must have 1 to {capacity} tokens to be packed")
    shapes = _best_fit(np.bincount(tokens), capacity)
    lengths = [np.repeat(*np.array(shape).T) for shape in shapes]
    numbers = list(shapes.values())
    slots = np.concatenate([np.tile(held, number) for held, number in zip(lengths, numbers, strict=True)])
    sizes = np.repeat([len(held) for held in lengths], numbers)
    # numpy sorts small integers with radix sort, which is ten times faster.
    small = np.min_scalar_type(capacity)
    shuffled = np.random.default_rng(seed).permutation(len(tokens))
    by_length = shuffled[np.argsort(tokens[shuffled].astype(small), kind="stable")]
    documents = np.empty(len(tokens), dtype=np.int64)
    documents[np.argsort(slots.astype(small), kind="stable")] = by_length
    return Packs(documents, np.concatenate([[0], np.cumsum(sizes)]))


def _best_fit(documents_of_length: np.ndarray, capacity: int) -> dict[_Shape, int]:
    """Return the number of packs of each shape, given the number of documents of each length."""
    open_packs: dict[int, dict[_Shape, int]] = {}
    """The number of open packs of each shape, by free space."""
    # Bit n is set if packs with n free tokens are open; the lowest set bit from a length on is the best fit.
    spaces = 0
    for length in np.flatnonzero(documents_of_length)[::-1].tolist():
        left = int(documents_of_length[length])
        while left:
            fitting = spaces >> length
            space = length + (fitting & -fitting).bit_length() - 1 if fitting else capacity
            # The pack just filled stays the best fit, so it takes as many documents as fit.
            each = min(space // length, left)
            shape, number = open_packs[space].popitem() if fitting else ((), left // each)
            taken = min(number, left // each)
            if taken < number:
                open_packs[space][shape] = number - taken
            elif fitting and not open_packs[space]:
                spaces ^= 1 << space
            filled = open_packs.setdefault(space - each * length, {})
            grown = (*shape, (length, each))
            filled[grown] = filled.get(grown, 0) + taken
            spaces |= 1 << (space - each * length)
            left -= taken * each
    return {shape: number for group in open_packs.values() for shape, number in group.items()}

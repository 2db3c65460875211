"""Documents into sequences of a given length, with hardly a token left over. Pure numpy, torch-free.

Best-fit decreasing: the longest documents first, each into the open pack whose space it fills best. Documents
of one length are interchangeable, so whole groups of equal packs are filled at once: the work grows with the
number of lengths, not of documents.
"""

from dataclasses import dataclass

import numpy as np

_Shape = tuple[tuple[int, int], ...]
"""What equal packs hold: lengths, and how many documents of each."""


@dataclass(frozen=True, slots=True)
class Packs:
    """Which documents share a sequence."""

    documents: np.ndarray
    """Their numbers, pack after pack."""
    starts: np.ndarray
    """Where each pack begins in `documents`; one more at the end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """The documents of one pack, in their order."""
        return self.documents[self.starts[number] : self.starts[number + 1]]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """A value of each document, added up for each pack."""
        totals: np.ndarray = np.add.reduceat(values[self.documents], self.starts[:-1])
        return totals


def pack_documents(tokens: np.ndarray, *, capacity: int, seed: int) -> Packs:
    """Put every document into one pack.

    The lengths alone decide how many packs there are and what lengths share one; the seed decides which of
    the documents of a length goes where.

    Args:
        tokens: Of each document, at least 1.
        capacity: Tokens that a pack may hold.
        seed: Draws among documents of equal length.

    Raises:
        ValueError: a document is longer than a pack, or there is none.
    """
    if not len(tokens) or int(tokens.max()) > capacity or int(tokens.min()) < 1:
        raise ValueError(f"documents must have 1 to {capacity} tokens to be packed")
    shapes = _best_fit(np.bincount(tokens), capacity)
    lengths = [np.repeat(*np.array(shape).T) for shape in shapes]
    numbers = list(shapes.values())
    slots = np.concatenate([np.tile(held, number) for held, number in zip(lengths, numbers, strict=True)])
    sizes = np.repeat([len(held) for held in lengths], numbers)
    # Small integers are sorted by radix, ten times faster.
    small = np.min_scalar_type(capacity)
    shuffled = np.random.default_rng(seed).permutation(len(tokens))
    by_length = shuffled[np.argsort(tokens[shuffled].astype(small), kind="stable")]
    documents = np.empty(len(tokens), dtype=np.int64)
    documents[np.argsort(slots.astype(small), kind="stable")] = by_length
    return Packs(documents, np.concatenate([[0], np.cumsum(sizes)]))


def _best_fit(documents_of_length: np.ndarray, capacity: int) -> dict[_Shape, int]:
    """How many packs of which shape hold all documents, given how many there are of each length."""
    open_packs: dict[int, dict[_Shape, int]] = {}
    """By free space: shapes, and how many packs have them."""
    # Bit n is set where packs with n free tokens are open: the best fit is the lowest bit from a length on.
    spaces = 0
    for length in np.flatnonzero(documents_of_length)[::-1].tolist():
        left = int(documents_of_length[length])
        while left:
            fitting = spaces >> length
            space = length + (fitting & -fitting).bit_length() - 1 if fitting else capacity
            # A pack just filled has the least space of all, so it takes as many as go in before another does.
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

"""Labels of the tokens of a rendered row. Torch-free."""

from collections.abc import Sequence

from train.formats.base import Span

IGNORED = -100
"""Label of a token that is not trained."""


def label_tokens(ids: Sequence[int], offsets: Sequence[Span], trained: Sequence[Span]) -> list[int]:
    """Return the labels of one row: the token's id if it contains a trained character, else `IGNORED`.

    Byte-level tokens include the space before a word, so the first token may start before its span.
    """
    return [
        token if any(start < high and end > low for low, high in trained) else IGNORED
        for token, (start, end) in zip(ids, offsets, strict=True)
    ]

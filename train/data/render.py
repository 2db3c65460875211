"""Which tokens of a rendered row are trained. Torch-free."""

from collections.abc import Sequence

from train.formats.base import Span

IGNORED = -100
"""Label of a token that is read but not trained."""


def label_tokens(ids: Sequence[int], offsets: Sequence[Span], trained: Sequence[Span]) -> list[int]:
    """Labels of one row: the token's own id where it holds a trained character, else `IGNORED`.

    Byte-level tokens begin with the space before a word, so the first one may start before its span.
    """
    return [
        token if any(start < high and end > low for low, high in trained) else IGNORED
        for token, (start, end) in zip(ids, offsets, strict=True)
    ]

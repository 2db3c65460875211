"""The definition of a data format, and checks that several formats share. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Value = Mapping[str, Any]
"""A row, as values by field name."""
Span = tuple[int, int]
"""A half-open pair of character offsets into a text."""
Turns = Sequence[Mapping[str, str]]
"""A conversation: `role` and `content` of each turn."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a row, and the parts of it that a decoder is trained on."""

    text: str
    trained: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A data format. Every function except `check` receives only rows that passed `check`."""

    name: str
    """The value of data.format. It is part of the cache keys of prepared data and folds."""
    task: Literal["causal", "classification"]
    """The model.task of the format. Decoders are trained on spans, classifiers on the label."""
    trained: str
    """The trained part, for the table in the documentation."""
    example: Value
    """A row that passes `check`, for the table in the documentation and error messages."""
    check: Callable[[Value], str | None]
    """Returns the problem of a row, or None."""
    render: Callable[[Value, Any], Rendered]
    """Renders a row as text, given the row and the tokenizer."""
    asked: Callable[[Value], Sequence[str]]
    """Returns the input texts of a row. Rows with equal inputs (up to case, white space and Unicode forms)
    are duplicates and stay in one fold."""
    label: Callable[[Value], str] | None = None
    """Returns the class of a row; set for classification only."""
    uses_chat_template: bool = False
    """Whether the tokenizer's chat template renders the text, including special tokens. Otherwise the
    tokenizer adds its special tokens."""
    question: Callable[[Value], tuple[Turns, str]] | None = None
    """Returns the turns up to a row's first question, for eval.num_samples, and the reference answer; None if
    rows contain no questions."""

    def __post_init__(self) -> None:
        """Check that exactly the classification formats have a label.

        Raises:
            ValueError: A classification format has no label, or another format has one.
        """
        if (self.label is not None) != (self.task == "classification"):
            raise ValueError(
                f"format {self.name}: label is required for task=classification and not allowed otherwise"
            )


def check_texts(value: Value, *fields: str) -> str | None:
    """Return why one of the fields is not valid text, or None if all are."""
    for field in fields:
        if field not in value:
            return missing(value, field)
        if not isinstance(value[field], str) or not value[field].strip():
            return f"the field {field!r} must be a non-empty string"
        if "\0" in value[field]:
            return f"the field {field!r} contains a NUL character"
        if any("\ud800" <= character <= "\udfff" for character in value[field]):
            return f"the field {field!r} contains a lone surrogate, which is not valid Unicode"
    return None


def missing(value: Value, field: str) -> str:
    """Return the problem of a row without a required field."""
    return f"the field {field!r} is missing (found: {', '.join(sorted(value)) or 'nothing'})"


def end_of_text(tokenizer: Any) -> str:
    """Return the tokenizer's end-of-text token, or an empty string."""
    return tokenizer.eos_token or ""

"""What every data format defines, and the checks that several of them share. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Value = Mapping[str, Any]
"""A row: its fields by name."""
Span = tuple[int, int]
"""A half-open pair of character offsets into a text."""
Turns = Sequence[Mapping[str, str]]
"""A conversation: `role` and `content` of each turn."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a row, and which parts of it a decoder learns to write."""

    text: str
    trained: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One data format. Every function except `check` is given rows that passed `check`."""

    name: str
    """The value of data.format. Prepared data and folds are kept under it: a new name prepares all again."""
    task: Literal["causal", "classification"]
    """The only model.task that it serves. Decoders learn the trained spans, classifiers the label."""
    trained: str
    """What is trained, for the table in the documentation."""
    example: Value
    """A row that passes `check`, for the table in the documentation and for refusals."""
    check: Callable[[Value], str | None]
    """What is wrong with a row, or None."""
    render: Callable[[Value, Any], Rendered]
    """The text that a row (with the tokenizer) becomes."""
    asked: Callable[[Value], Sequence[str]]
    """The texts that ask something of the model. Rows with equal ones (but for case, white space and forms of
    characters) are duplicates and stay in one fold."""
    label: Callable[[Value], str] | None = None
    """The class of a row; for classification only."""
    uses_chat_template: bool = False
    """Whether the tokenizer's chat template writes the text, special tokens included. Otherwise the tokenizer
    adds its special tokens."""
    question: Callable[[Value], tuple[Turns, str]] | None = None
    """The turns up to a row's first question, which eval.num_samples asks, and the reference answer; None
    where rows hold no questions."""

    def __post_init__(self) -> None:
        """Check that the task and the label belong together.

        Raises:
            ValueError: a classification format has no label, or another one has one.
        """
        if (self.label is not None) != (self.task == "classification"):
            raise ValueError(f"format {self.name}: a label belongs to task=classification, and only to it")


def check_texts(value: Value, *fields: str) -> str | None:
    """What keeps some fields of a row from being text that can be tokenised, or None."""
    for field in fields:
        if field not in value:
            return missing(value, field)
        if not isinstance(value[field], str) or not value[field].strip():
            return f"the field {field!r} must be non-empty text"
        if "\0" in value[field]:
            return f"the field {field!r} holds a NUL character"
        if any("\ud800" <= character <= "\udfff" for character in value[field]):
            return f"the field {field!r} holds half a character (a lone surrogate)"
    return None


def missing(value: Value, field: str) -> str:
    """The problem of a row that lacks a field."""
    return f"the field {field!r} is missing (found: {', '.join(sorted(value)) or 'nothing'})"


def end_of_text(tokenizer: Any) -> str:
    """The token that ends a text, where the tokenizer has one."""
    return tokenizer.eos_token or ""

"""A row as text, with the spans of it that are trained.

Shape legend: a span is a half-open pair of character offsets into the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.failures import DataError

IGNORED = -100
"""Label of a token that is read but not trained."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Text, and which parts of it the model learns to write."""

    text: str
    trained: tuple[Span, ...]


def render(value: dict[str, Any], format_name: str, tokenizer: Any) -> Rendered:
    """Turn a checked row of a decoder format into text and trained spans."""
    if format_name == "messages":
        return render_messages(value["messages"], tokenizer)
    end = tokenizer.eos_token or ""
    if format_name == "prompt_completion":
        text = value["prompt"] + value["completion"] + end
        return Rendered(text, ((len(value["prompt"]), len(text)),))
    text = value["text"] + end
    return Rendered(text, ((0, len(text)),))


def render_messages(messages: Sequence[dict[str, str]], tokenizer: Any) -> Rendered:
    """Apply the chat template and find each assistant turn by the text that precedes it.

    Works for any template that only appends, whether or not it marks generations; the end-of-turn mark is
    trained, the white space after it is not.

    Raises:
        DataError: the template rewrites earlier turns, so the turns cannot be told apart.
    """
    text = _apply(tokenizer, messages)
    spans: list[Span] = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _apply(tokenizer, messages[:number], add_generation_prompt=True)
        through = _apply(tokenizer, messages[: number + 1])
        if not (text.startswith(through) and through.startswith(before)):
            raise DataError(
                "the tokenizer's chat template rewrites earlier turns, so the assistant's part cannot be"
                " told apart; use a template that only appends"
            )
        spans.append((len(before), len(through.rstrip())))
    return Rendered(text, tuple(spans))


def _apply(tokenizer: Any, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def label_tokens(ids: Sequence[int], offsets: Sequence[Span], trained: Sequence[Span]) -> list[int]:
    """Labels of one row: the token's own id where it holds a trained character, else `IGNORED`.

    Byte-level tokens begin with the space before a word, so the first one may start before its span.
    """
    return [
        token if any(start < high and end > low for low, high in trained) else IGNORED
        for token, (start, end) in zip(ids, offsets, strict=True)
    ]

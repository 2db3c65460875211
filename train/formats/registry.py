"""The data formats that data.format can name. Torch-free."""

import json
from typing import Any

from pydantic_core import PydanticKnownError

from train.formats.base import Format
from train.formats.labelled import LABELLED
from train.formats.messages import MESSAGES
from train.formats.plain import PROMPT_COMPLETION, TEXT

FORMATS: tuple[Format, ...] = (MESSAGES, PROMPT_COMPLETION, TEXT, LABELLED)


def format_names(task: str | None = None) -> tuple[str, ...]:
    """Names of all formats, or of those that serve a task."""
    return tuple(entry.name for entry in FORMATS if task in (None, entry.task))


def format_named(name: str) -> Format:
    """The format of a name that the config accepted."""
    return next(entry for entry in FORMATS if entry.name == name)


def formats_with_questions() -> tuple[str, ...]:
    """Names of the formats whose rows eval.num_samples can ask."""
    return tuple(entry.name for entry in FORMATS if entry.question)


def accept_name(name: Any) -> Any:
    """Refuse what names no format, in the words in which pydantic refuses an unknown literal.

    Raises:
        PydanticKnownError: there is no such format.
    """
    names = format_names()
    if name not in names:
        raise PydanticKnownError("literal_error", {"expected": either(names)})
    return name


def either(names: tuple[str, ...]) -> str:
    """Quoted names, as alternatives: `'a', 'b' or 'c'`."""
    *most, last = map(repr, names)
    return f"{', '.join(most)} or {last}" if most else last


def formats_table() -> str:
    """The Markdown table of the documentation: name, a row, what is trained."""
    lines = ["| `data.format` | a row | trained |", "|---|---|---|"]
    lines += [f"| `{entry.name}` | `{json.dumps(entry.example)}` | {entry.trained} |" for entry in FORMATS]
    return "\n".join(lines)

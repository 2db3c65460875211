"""The data formats that data.format can name. Torch-free."""

import json

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


def formats_table() -> str:
    """The rows of the documentation's Markdown table: name, an example, what is trained."""
    return "\n".join(
        f"| `{entry.name}` | `{json.dumps(entry.example)}` | {entry.trained} |" for entry in FORMATS
    )

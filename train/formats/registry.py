"""The allowed values of data.format. Torch-free."""

from train.formats.base import Format
from train.formats.labelled import LABELLED
from train.formats.messages import MESSAGES
from train.formats.plain import PROMPT_COMPLETION, TEXT

FORMATS: tuple[Format, ...] = (MESSAGES, PROMPT_COMPLETION, TEXT, LABELLED)


def format_names(task: str | None = None) -> tuple[str, ...]:
    """Return the names of all formats, or of those for a task."""
    return tuple(entry.name for entry in FORMATS if task in (None, entry.task))


def format_named(name: str) -> Format:
    """Return the format with a name that the config accepted."""
    return next(entry for entry in FORMATS if entry.name == name)


def formats_with_questions() -> tuple[str, ...]:
    """Return the names of formats with questions, which eval.num_samples needs."""
    return tuple(entry.name for entry in FORMATS if entry.question)

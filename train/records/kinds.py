"""The kinds of events in a journal, and reading its lines."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from train.records.base import Event, RecordError, parse_line
from train.records.reading import from_row

E = TypeVar("E", bound=Event)


class Kinds(Generic[E]):
    """All kinds of events that one type of journal may contain."""

    def __init__(self, classes: Iterable[type[E]]) -> None:
        """Register classes by their names in the file.

        Raises:
            ValueError: Two classes have the same name.
        """
        self.by_name: dict[str, type[E]] = {}
        for cls in classes:
            if cls.event in self.by_name:
                raise ValueError(f"event kind {cls.event!r} is defined twice")
            self.by_name[cls.event] = cls

    def read(self, lines: Iterable[bytes], file: Path, first: int = 1) -> Iterator[E]:
        """Parse the events of complete lines; lines truncated by a kill are skipped.

        Args:
            lines: The lines, without line ends.
            file: The file of the lines, for messages.
            first: Number of the first line in the file.

        Raises:
            RecordError: A kind is unknown, or a field is missing, unknown or invalid.
        """
        for number, line in enumerate(lines, first):
            row = parse_line(line)
            if row is not None:
                yield self.parse(row, f"{file}:{number}")

    def parse(self, row: dict[str, Any], where: str) -> E:
        """Parse the event of a decoded line.

        Raises:
            RecordError: The event is invalid, as for `read`; the message begins with `where`.
        """
        kind = row.pop("event", None)
        cls = self.by_name.get(kind) if isinstance(kind, str) else None
        if cls is None:
            known = ", ".join(sorted(self.by_name))
            raise RecordError(f"{where}: unknown event kind {kind!r}; known kinds: {known}")
        return from_row(cls, row, f"{where}: event {kind!r}")

    def table(self) -> list[tuple[str, str, str]]:
        """Return a row per kind for the documentation: name, fields and meaning."""
        return [
            (name, ", ".join(_names(cls)), (cls.__doc__ or "").strip())
            for name, cls in sorted(self.by_name.items())
        ]


def _names(cls: type[Event]) -> list[str]:
    return [entry.name for entry in fields(cls) if entry.name != "time"]

"""The kinds of events that a journal may hold, and how its lines are read."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from train.records.base import Event, RecordError, parse_line
from train.records.reading import from_row

E = TypeVar("E", bound=Event)


class Kinds(Generic[E]):
    """All kinds of events that one sort of journal may hold."""

    def __init__(self, classes: Iterable[type[E]]) -> None:
        """Know these classes, each by the name that it has in the file.

        Raises:
            ValueError: two of them have the same name.
        """
        self.by_name: dict[str, type[E]] = {}
        for cls in classes:
            if cls.event in self.by_name:
                raise ValueError(f"event kind {cls.event!r} is defined twice")
            self.by_name[cls.event] = cls

    def read(self, lines: Iterable[bytes], file: Path, first: int = 1) -> Iterator[E]:
        """The events of whole lines; lines that a kill cut short are left out.

        Args:
            lines: Without their line ends.
            file: Where they come from, for messages.
            first: Number of the first line in the file.

        Raises:
            RecordError: the kind is unknown, or a field is missing, unknown or invalid.
        """
        for number, line in enumerate(lines, first):
            row = parse_line(line)
            if row is not None:
                yield self.parse(row, f"{file}:{number}")

    def parse(self, row: dict[str, Any], where: str) -> E:
        """The event that a decoded line holds.

        Raises:
            RecordError: as for `read`; the message begins with `where`.
        """
        kind = row.pop("event", None)
        cls = self.by_name.get(kind) if isinstance(kind, str) else None
        if cls is None:
            known = ", ".join(sorted(self.by_name))
            raise RecordError(f"{where}: unknown event kind {kind!r}; known kinds: {known}")
        return from_row(cls, row, f"{where}: event {kind!r}")

    def table(self) -> list[tuple[str, str, str]]:
        """One row for each kind, for the documentation: its name, its fields, its meaning."""
        return [
            (name, ", ".join(_names(cls)), (cls.__doc__ or "").strip())
            for name, cls in sorted(self.by_name.items())
        ]


def _names(cls: type[Event]) -> list[str]:
    return [entry.name for entry in fields(cls) if entry.name != "time"]

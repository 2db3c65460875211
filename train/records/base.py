"""What every record is, and how it is written. Standard library only, as are the other files here.

`shardline status` reads the records of many runs, and pydantic alone would take longer than that.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, TypeVar, dataclass_transform

Row = Mapping[str, Any]
"""A decoded JSON object, before it is checked."""
_C = TypeVar("_C")


class RecordError(ValueError):
    """A record that is not what this version writes, or a documented older form of it."""


class Record:
    """A frozen dataclass that is written as a JSON object; all fields are given by name.

    What `dataclass(frozen=True)` would generate for each class is written here once: `status` imports sixty
    of them, and would spend more time on generated code than on reading its runs.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    renamed: ClassVar[Mapping[str, str]] = {}
    """Fields that earlier versions wrote under another name: old name to new name."""

    def __init__(self, **values: Any) -> None:
        for entry in fields(self):
            if entry.name not in values and entry.default is MISSING:
                if entry.default_factory is MISSING:
                    raise TypeError(f"{type(self).__name__}: missing field {entry.name}")
                values[entry.name] = entry.default_factory()
        if unknown := values.keys() - self.__dataclass_fields__.keys():
            raise TypeError(f"{type(self).__name__}: unknown field {', '.join(sorted(unknown))}")
        # A default is an attribute of the class.
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            getattr(self, entry.name) == getattr(other, entry.name) for entry in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{entry.name}={getattr(self, entry.name)!r}" for entry in fields(self))
        return f"{type(self).__name__}({values})"

    @classmethod
    def upgraded(cls, row: Row) -> Row:
        """The row with the names and values of this version, whichever version wrote it."""
        return {cls.renamed.get(name, name): value for name, value in row.items()} if cls.renamed else row


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[_C]) -> type[_C]:
    """Make a dataclass of a `Record`: frozen, with fields by name, and without generated code."""
    return dataclass(init=False, repr=False, eq=False)(cls)


def now() -> float:
    """Seconds since the epoch, as exact as records keep them."""
    return round(time.time(), 3)


@record
class Event(Record):
    """One line of a journal: the kind under the key `event`, and its fields."""

    event: ClassVar[str]
    """The kind's name in the file. It never changes: journals of earlier versions stay readable."""
    time: float = field(default_factory=now)
    """When it happened, in seconds since the epoch."""


@record
class RunEvent(Event):
    """An event of a run's journal; its kinds are in `train.journal`."""


def event_row(event: Event) -> dict[str, Any]:
    """The line of an event."""
    row = to_row(event)
    return {"time": row.pop("time"), "event": event.event, **row}


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line holds; None for a line that was cut short."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def to_row(entry: Record, *, whole: bool = False) -> dict[str, Any]:
    """A record as plain values.

    Args:
        entry: The record.
        whole: Also write optional fields that are not set; a line leaves them out.
    """
    return {
        each.name: _plain(value, whole)
        for each in fields(entry)
        if (value := getattr(entry, each.name)) is not None or whole or each.default is not None
    }


def _plain(value: Any, whole: bool) -> Any:
    if isinstance(value, str | int | float | NoneType):
        return value
    if isinstance(value, Record):
        return to_row(value, whole=whole)
    if isinstance(value, Mapping):
        return {key: _plain(inner, whole) for key, inner in value.items()}
    return [_plain(inner, whole) for inner in value]

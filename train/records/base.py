"""The base class of records, and writing them as JSON. Standard library only, like the whole package.

`shardline status` reads the records of many runs, and importing pydantic alone would take longer than that.
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
    """A record that matches neither the current format nor a documented older one."""


class Record:
    """A frozen dataclass that is written as a JSON object; all fields are keyword-only.

    The methods that `dataclass(frozen=True)` generates per class are written here once: `status` imports
    sixty classes, and generating their code would take longer than reading the runs.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    renamed: ClassVar[Mapping[str, str]] = {}
    """New names of fields that were renamed since earlier versions, by old name."""

    def __init__(self, **values: Any) -> None:
        for entry in fields(self):
            if entry.name not in values and entry.default is MISSING:
                if entry.default_factory is MISSING:
                    raise TypeError(f"{type(self).__name__}: missing field {entry.name}")
                values[entry.name] = entry.default_factory()
        if unknown := values.keys() - self.__dataclass_fields__.keys():
            raise TypeError(f"{type(self).__name__}: unknown field {', '.join(sorted(unknown))}")
        # Defaults are class attributes.
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
        """Return a row of any version with the names and values of this version."""
        return {cls.renamed.get(name, name): value for name, value in row.items()} if cls.renamed else row


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[_C]) -> type[_C]:
    """Make a `Record` subclass a frozen dataclass with keyword-only fields and no generated code."""
    return dataclass(init=False, repr=False, eq=False)(cls)


def now() -> float:
    """Return the seconds since the epoch, rounded as in records."""
    return round(time.time(), 3)


@record
class Event(Record):
    """One line of a journal: the kind under the key `event`, and the fields."""

    event: ClassVar[str]
    """The name of the kind in the file. It must never change, so that older journals stay readable."""
    time: float = field(default_factory=now)
    """Time of the event, in seconds since the epoch."""


@record
class RunEvent(Event):
    """An event of a run's journal; the kinds are in `train.journal`."""


def event_row(event: Event) -> dict[str, Any]:
    """Return the JSON object of an event."""
    row = to_row(event)
    return {"time": row.pop("time"), "event": event.event, **row}


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parse the JSON object of a line; returns None for a truncated line."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def to_row(entry: Record, *, whole: bool = False) -> dict[str, Any]:
    """Return a record as plain values.

    Args:
        entry: The record.
        whole: Whether to include optional fields that are None; journal lines omit them.
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

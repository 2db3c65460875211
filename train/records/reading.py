"""Converts plain values to records and checks each value against its field's type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from train.records.base import Record, RecordError, Row

T = TypeVar("T", bound=Record)
_Read = Callable[[Any], Any]


def from_row(cls: type[T], row: Row, where: str) -> T:
    """Convert plain values to a record and check each value against its field's type.

    Args:
        cls: The type of the record.
        row: The decoded JSON object.
        where: Location for messages, such as file, line and kind.

    Raises:
        RecordError: A field is missing, unknown or invalid.
    """
    readers, required = _readers_of(cast("Any", cls))
    values = {}
    for name, value in cls.upgraded(row).items():
        reader = readers.get(name)
        if reader is None:
            raise RecordError(f"{where}: unknown field {name!r}; known fields: {', '.join(readers)}")
        try:
            values[name] = reader(value)
        except RecordError as error:
            raise RecordError(f"{where}: {name}: {error}") from None
    if not required <= values.keys():
        missing = ", ".join(sorted(required - values.keys()))
        raise RecordError(f"{where}: missing field {missing}")
    made = cls.__new__(cls)
    # The checks of the constructor are already done.
    vars(made).update(values)
    return made


@cache
def _readers_of(cls: type[Record]) -> tuple[dict[str, _Read], frozenset[str]]:
    """Return the reader of each field, and the required fields: those without a plain default."""
    hints = get_type_hints(cls)
    entries = fields(cls)
    readers = {entry.name: _reader(hints[entry.name]) for entry in entries}
    return readers, frozenset(entry.name for entry in entries if entry.default is MISSING)


def _reader(hint: Any) -> _Read:
    """Return a reader for values of a type; the reader raises RecordError for other values."""
    origin = get_origin(hint)
    if hint is Any:
        return lambda value: value
    if origin in (Union, UnionType):
        return _one_of([arg for arg in get_args(hint) if arg is not NoneType], NoneType in get_args(hint))
    if origin is Literal:
        return _literal(get_args(hint))
    if origin is tuple and Ellipsis not in get_args(hint):
        return _pair(get_args(hint))
    if origin in (list, tuple, Sequence):
        return _list(get_args(hint)[0])
    if origin in (dict, Mapping):
        return _mapping(*get_args(hint))
    if issubclass(hint, Record):
        return _nested(hint)
    if issubclass(hint, Enum):
        return _enum(hint)
    return _scalar(hint)


def _scalar(kind: type) -> _Read:
    allowed = (int, float) if kind is float else (kind,)

    def read(value: Any) -> Any:
        if type(value) not in allowed:
            raise RecordError(f"invalid value {value!r}; expected {kind.__name__}")
        return value

    return read


def _one_of(hints: Sequence[Any], optional: bool) -> _Read:
    readers = [_reader(hint) for hint in hints]

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value)
            except RecordError:
                continue
        return readers[-1](value)

    return read


def _literal(allowed: Sequence[Any]) -> _Read:
    def read(value: Any) -> Any:
        if value not in allowed:
            raise RecordError(f"unknown value {value!r}; allowed: {', '.join(map(str, allowed))}")
        return value

    return read


def _enum(cls: type[Enum]) -> _Read:
    members = {member.value: member for member in cls}

    def read(value: Any) -> Any:
        if not isinstance(value, str | int) or value not in members:
            known = ", ".join(map(str, members))
            raise RecordError(f"unknown {cls.__name__.lower()} {value!r}; known: {known}")
        return members[value]

    return read


def _pair(hints: Sequence[Any]) -> _Read:
    readers = [_reader(hint) for hint in hints]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise RecordError(f"invalid value {value!r}; expected a list of {len(readers)} values")
        return tuple(reader(inner) for reader, inner in zip(readers, value, strict=True))

    return read


def _list(hint: Any) -> _Read:
    reader = _reader(hint)

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise RecordError(f"invalid value {value!r}; expected a list")
        return [reader(inner) for inner in value]

    return read


def _mapping(key_hint: Any, hint: Any) -> _Read:
    key_reader, reader = _reader(key_hint), _reader(hint)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RecordError(f"invalid value {value!r}; expected an object")
        return {key_reader(key): reader(inner) for key, inner in value.items()}

    return read


def _nested(cls: type[Record]) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RecordError(f"invalid value {value!r}; expected an object")
        return from_row(cls, value, cls.__name__)

    return read

"""All config keys that the command line can set, with the values of those that can be listed."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from launcher.config import CommandConfig


def config_keys() -> dict[str, list[str]]:
    """Return all dotted keys, each with its named values: literals, true and false, null."""
    return dict(_keys_of(CommandConfig, ""))


def _keys_of(section: type[BaseModel], prefix: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for name, field in section.model_fields.items():
        sections = [kind for kind in _alternatives(field.annotation) if _is_section(kind)]
        if sections:
            found += _keys_of(sections[0], f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _values_of(field.annotation)))
    return found


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [annotation]


def _values_of(annotation: Any) -> list[str]:
    """Return the named values of an annotation, as they are written on the command line."""
    values: list[str] = []
    for kind in _alternatives(annotation):
        if get_origin(kind) is Literal:
            values += [str(value) for value in get_args(kind)]
        elif kind is bool:
            values += ["true", "false"]
        elif kind is NoneType:
            values.append("null")
    return values

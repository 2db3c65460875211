"""Types and values of the config in words, for a reader who does not know Python's typing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as limits
import yaml
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from slurm.values import MadeOf
from train.config import FilePath

_NAMES = {int: "integer", float: "number", str: "text", NoneType: "`null`", Any: "any value"}


def allowed(hint: Any) -> str:
    """What a key with this type hint accepts."""
    return _or(_alternatives(hint))


def shown(value: Any) -> str:
    """A value as it is written in YAML or on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def _alternatives(hint: Any) -> Iterator[str]:
    origin = get_origin(hint)
    if hint == FilePath:
        yield "path"
    elif origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _alternatives(part)
    elif origin is Literal:
        yield from (f"`{value}`" for value in get_args(hint))
    elif hint is bool:
        yield from ("`true`", "`false`")
    elif origin is Annotated:
        kind, *metadata = get_args(hint)
        yield _limited(kind, list(_flat(metadata)))
    elif origin in (list, dict):
        yield _collection(hint, "")
    else:
        yield _NAMES.get(hint, "the keys below")


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    for entry in metadata:
        yield from _flat(entry.metadata) if isinstance(entry, FieldInfo) else (entry,)


def _limited(kind: Any, metadata: Sequence[Any]) -> str:
    """A type with its bounds, its pattern, or the characters that it accepts."""
    bounds = {}
    for entry in metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if (bound := getattr(entry, name, None)) is not None:
                bounds[sign] = f"{sign} {shown(bound)}"
        if isinstance(entry, AfterValidator) and isinstance(entry.func, MadeOf):
            return f"text ({entry.func.allowed})"
        if pattern := getattr(entry, "pattern", None):
            return f"text that matches `{pattern}`"
    if get_origin(kind) in (list, dict):
        return _collection(kind, _length(metadata))
    return " ".join([allowed(kind), " and ".join(bounds.values())]).strip()


def _length(metadata: Sequence[Any]) -> str:
    least = next((entry.min_length for entry in metadata if isinstance(entry, limits.MinLen)), 0)
    most = next((entry.max_length for entry in metadata if isinstance(entry, limits.MaxLen)), None)
    if not least:
        return ""
    return f" of {least}" if least == most else f" of at least {least}"


def _collection(hint: Any, length: str) -> str:
    parts = get_args(hint)
    if get_origin(hint) is dict:
        return f"mapping of names to {allowed(parts[1])}"
    return f"list{length}, each {allowed(parts[0])}"


def _or(parts: Iterable[str]) -> str:
    *first, last = dict.fromkeys(parts)
    return f"{', '.join(first)} or {last}" if first else last


def leaves(values: Mapping[str, Any], sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of nested values, by dotted name.

    Args:
        values: Values by key, with a mapping for each section.
        sections: For each key that is a section, the same for its keys; other mappings are single values.
        prefix: Put before each name.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in sections and isinstance(value, Mapping):
            found |= leaves(value, sections[name], f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found

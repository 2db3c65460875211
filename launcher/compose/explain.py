"""Turn validation errors of pydantic into problems, with the source of each value and what is allowed."""

from collections.abc import Iterable, Mapping
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from launcher.compose.defaults import section_of
from launcher.config import CommandConfig
from launcher.errors import Problem, nearest
from train.config_names import RENAMED_KEYS


def names_in(section: str) -> set[str] | None:
    """Return the dotted names of the keys of a section.

    Args:
        section: Dotted name of an existing section; the empty string is the root.

    Returns:
        The names; empty for a single value, None for a mapping that allows any keys.
    """
    annotation: Any = CommandConfig
    for part in section.split(".") if section else ():
        if get_origin(annotation) is dict:
            return None
        field = annotation.model_fields[part].annotation
        annotation = section_of(field) or field
    if get_origin(annotation) is dict:
        return None
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return set()
    return {f"{section}.{name}" if section else name for name in annotation.model_fields}


def hint(key: str, names: Iterable[str]) -> str:
    """Return the fix for an unknown key: the current name of a renamed key, else the nearest valid name."""
    renamed = RENAMED_KEYS.get(key)
    return f"did you mean {renamed}?" if renamed else nearest(key, names)


def explain(entry: ErrorDetails, choices: Mapping[str, str], given: set[str]) -> Problem:
    """Turn one validation error into a problem.

    Args:
        entry: The error as pydantic reports it.
        choices: The chosen option of each group.
        given: Keys that are set on the command line.
    """
    key = ".".join(str(part) for part in entry["loc"])
    source = _source(key, choices, given)
    if entry["type"] == "extra_forbidden":
        names = names_in(key.rpartition(".")[0]) or set()
        return Problem(
            code="config.unknown_key",
            field=key,
            message=f"unknown key {key!r} ({source})",
            fix=hint(key, names),
        )
    if entry["type"] == "missing":
        return Problem(
            code="config.missing",
            field=key,
            message=f"missing value for {key} ({source})",
            fix=f"set {key}=VALUE, or choose a group option that sets it",
        )
    allowed = entry["msg"][0].lower() + entry["msg"][1:]
    return Problem(
        code="config.value",
        field=key,
        message=f"{key}={entry['input']!r} ({source}): {allowed}",
        fix=f"change {key}",
    )


def _source(key: str, choices: Mapping[str, str], given: set[str]) -> str:
    """Return the source of a value: the command line, or the files that may have set it."""
    if key in given:
        return "command line"
    section = key.split(".", maxsplit=1)[0]
    files = [
        f"conf/{name}/{choices[name]}.yaml"
        for name in (section, "experiment")
        if choices.get(name, "None") != "None"
    ]
    return " or ".join(files) or "conf/config.yaml"

"""docs/config.md: every key with its type, default and meaning, and the options of every group."""

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel

from docs.generate.values import allowed, leaves, shown, table
from launcher.compose.defaults import section_of
from launcher.compose.roots import packaged
from launcher.config import CommandConfig

_OPENING = """# Configuration

<!-- Generated from the config classes and conf/ by `make docs`. Do not edit. -->

A config is composed from the defaults below, one option of each group, an experiment and the command line, in
this order: a later value replaces an earlier one. `model=gpt2` chooses an option of a group, `optim.lr=1e-4`
sets a key. An option sets only the keys that are listed with it. If the default option of a group does not
keep the key's default, the table of keys shows both.

- [Keys](#keys)
- [Groups and options](#groups-and-options)
- [Experiments](#experiments)
- [Your own options](#your-own-options)
"""
_CLOSING = """## Your own options

An option is a YAML file in a folder with the group's name. Name the folder that contains your groups with
`--conf DIR`; a file with the name of an existing option replaces it. `conf/site/default.yaml` (ignored by
git) applies to every run of a checkout. Interpolations such as `${oc.env:HOME}` and `${optim.lr}` are
resolved when the run is planned.
"""


@dataclass(frozen=True, slots=True)
class Key:
    """One row of a table of keys."""

    name: str
    allowed: str
    default: str
    meaning: str


def page() -> str:
    """The whole page."""
    parts = [_OPENING, "## Keys\n", "### Top level\n", _table(root_keys())]
    for name, field in CommandConfig.model_fields.items():
        if section := section_of(field.annotation):
            summary = " ".join((inspect.getdoc(section) or "").split())
            parts += [f"### `{name}`\n", summary + "\n", _table(list(section_keys(section, f"{name}.")))]
    parts.append("## Groups and options\n")
    for group, default in default_options().items():
        parts += [f"### `{group}=`\n", _options(group, default)]
    parts += [
        "## Experiments\n",
        "`experiment=NAME` chooses options and sets keys.\n",
        _options("experiment"),
    ]
    parts.append(_CLOSING)
    return "\n".join(parts)


def root_keys() -> list[Key]:
    """The keys that are in no section."""
    return [
        key
        for name in CommandConfig.model_fields
        if section_of(CommandConfig.model_fields[name].annotation) is None
        for key in section_keys(CommandConfig, "", only=name)
    ]


def section_keys(section: type[BaseModel], prefix: str, only: str | None = None) -> Iterator[Key]:
    """The keys of a section and of the sections in it."""
    hints = get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        if only not in (None, name):
            continue
        inner = section_of(field.annotation)
        if inner is None or field.default is None:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield Key(
                name=f"`{prefix}{name}`",
                allowed=allowed(hints[name]),
                default=_default(prefix + name, default, field.is_required()),
                meaning=docstring_of(section, name),
            )
        if inner:
            yield from section_keys(inner, f"{prefix}{name}.")


def docstring_of(section: type[BaseModel], name: str) -> str:
    """The docstring below a field in the class that defines it, on one line; empty if there is none."""
    owner = next(kind for kind in section.__mro__ if name in inspect.get_annotations(kind))
    return _docstrings(owner.__module__).get((owner.__name__, name), "")


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """Docstrings of the fields of every class in a module, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found = {}
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in zip(kind.body, kind.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[kind.name, name] = " ".join(text.split())
    return found


def default_options() -> dict[str, str]:
    """The option of each group that is used unless another one is chosen."""
    entries = _read(packaged("conf") / "config.yaml")["defaults"]
    return {
        group: option
        for entry in entries
        if isinstance(entry, dict)
        for group, option in entry.items()
        if option is not None and not group.startswith("optional ")
    }


@cache
def set_by_default() -> dict[str, tuple[str, Any]]:
    """The keys that the default options and conf/config.yaml set, each with the file and its value."""
    conf = packaged("conf")
    found = {}
    for group, option in default_options().items():
        for key, value in _leaves({group: _read(conf / group / f"{option}.yaml")}).items():
            found[key] = (f"{group}={option}", value)
    root = {name: value for name, value in _read(conf / "config.yaml").items() if name != "defaults"}
    return found | {key: ("conf/config.yaml", value) for key, value in _leaves(root).items()}


def _default(key: str, default: object, required: bool) -> str:
    text = "required" if required else f"`{shown(default)}`"
    source, value = set_by_default().get(key, ("", default))
    return f"{text}; `{source}` sets `{shown(value)}`" if source and value != default else text


def _options(group: str, default: str = "") -> str:
    rows = []
    for path in sorted((packaged("conf") / group).glob("*.yaml"), key=lambda path: path.stem):
        values = _read(path)
        chosen = [
            f"`{key.removeprefix('override /')}={option}`"
            for entry in values.pop("defaults", [])
            for key, option in entry.items()
        ]
        inside = _leaves(values if group == "experiment" else {group: values})
        keys = [f"`{key}={shown(value)}`" for key, value in inside.items()]
        name = f"`{path.stem}`" + (" (default)" if path.stem == default else "")
        rows.append((name, _first_comment(path), ", ".join([*chosen, *keys])))
    return table(("option", "description", "sets"), rows)


def _first_comment(path: Path) -> str:
    lines = path.read_text().splitlines()
    return next((x[1:].strip() for x in lines if x.startswith("#") and "@package" not in x), "")


def _leaves(values: dict[str, Any]) -> dict[str, Any]:
    return leaves(values, _sections(CommandConfig))


def _sections(section: type[BaseModel]) -> dict[str, Any]:
    inner = {name: section_of(field.annotation) for name, field in section.model_fields.items()}
    return {name: _sections(kind) for name, kind in inner.items() if kind}


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return values


def _table(keys: list[Key]) -> str:
    rows = [(key.name, key.allowed, key.default, key.meaning) for key in keys]
    return table(("key", "values", "default", "meaning"), rows)

"""The tables of what run and sweep directories hold, from the types of their records."""

from dataclasses import fields
from typing import Any

from docs.generate.values import table
from launcher.records.sweep_journal import SWEEP_KINDS
from train.journal.reading import KINDS
from train.records.kinds import Kinds
from train.result import Failed, Finished


def events() -> str:
    """The kinds of event in a run's journal."""
    return _kinds(KINDS)


def sweep_events() -> str:
    """The kinds of event in a sweep's journal."""
    return _kinds(SWEEP_KINDS)


def result() -> str:
    """The keys of result.json, by outcome."""
    return table(
        ["`outcome`", "other keys", "meaning"],
        [
            [f"`{cls.outcome}`", ", ".join(f"`{key}`" for key in _keys(cls)), _meaning(cls)]
            for cls in (Finished, Failed)
        ],
    )


def _kinds(kinds: Kinds[Any]) -> str:
    rows = [
        [f"`{name}`", ", ".join(f"`{entry}`" for entry in names.split(", ") if entry), meaning]
        for name, names, meaning in kinds.table()
    ]
    return table(["`event`", "fields", "meaning"], rows)


def _keys(cls: type[Finished] | type[Failed]) -> list[str]:
    in_the_file = {field: key for key, field in cls.renamed.items()}
    return [in_the_file.get(entry.name, entry.name) for entry in fields(cls)]


def _meaning(cls: type) -> str:
    return (cls.__doc__ or "").partition("\n")[0]

"""Reading and querying a run's journal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from train.journal import events
from train.journal.events import AttemptEvent, CheckpointSaved, Crashed
from train.records.base import RunEvent
from train.records.kinds import Kinds
from train.rundir import new_lines

_E = TypeVar("_E", bound=RunEvent)

KINDS: Kinds[RunEvent] = Kinds(
    cls
    for cls in vars(events).values()
    if isinstance(cls, type) and issubclass(cls, RunEvent) and "event" in vars(cls)
)
"""All kinds by their names in the file; `KINDS.table()` documents them."""


def read_journal(path: Path) -> list[RunEvent]:
    """Read all events, oldest first; a line truncated by a kill is skipped.

    Raises:
        RecordError: A kind is unknown, or a field is missing, unknown or invalid.
    """
    return list(KINDS.read(new_lines(path, 0)[0], path))


def of_kind(journal: Iterable[RunEvent], kind: type[_E]) -> list[_E]:
    """Return the events of one kind, oldest first."""
    return [event for event in journal if isinstance(event, kind)]


def newest(journal: Sequence[RunEvent], kind: type[_E]) -> _E | None:
    """Return the newest event of a kind, or None."""
    return next((event for event in reversed(journal) if isinstance(event, kind)), None)


def step_saved(journal: Iterable[RunEvent]) -> int | None:
    """Return the highest step with a published checkpoint, or None."""
    return max((event.step for event in of_kind(journal, CheckpointSaved)), default=None)


def attempts_in(journal: Iterable[RunEvent]) -> list[int]:
    """Return the numbers of all attempts with events, in order."""
    return sorted({event.attempt for event in of_kind(journal, AttemptEvent)})


def restarts_in(journal: Iterable[RunEvent]) -> int:
    """Return the number of restarts in place."""
    return sum(crash.then == "restart" for crash in of_kind(journal, Crashed))

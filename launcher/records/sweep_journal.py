"""events.jsonl of a sweep: one frozen type for each kind of event."""

from collections.abc import Mapping, Sequence

from train.records.base import Event, record
from train.records.kinds import Kinds


@record
class SweepEvent(Event):
    """An event of a sweep's journal."""


@record
class RungDecided(SweepEvent):
    """Successive halving decided which trials continue after a rung."""

    event = "halving"
    chain: str | None
    """The name of the slice that began it."""
    rung: int
    """From 0."""
    step: int
    """At which the trials were compared."""
    kept: Sequence[str]
    """Trials that continue, those of the best setting first."""
    dropped: Mapping[str, str]
    """Trials that stop there, each with the reason."""


@record
class SweepRestarted(SweepEvent):
    """Every trial is run again: what was decided before does not count any more."""

    event = "begun_anew"


@record
class TrialArchived(SweepEvent):
    """The run directory of a trial that is run again was renamed."""

    event = "set_aside"
    trial: str
    to: str
    """Its new name, in the sweep directory."""


@record
class SweepCancelled(SweepEvent):
    """The user cancelled or stopped the sweep."""

    event = "cancelled"
    waiting_only: bool
    """Whether running trials were left to save and stop."""


SWEEP_KINDS: Kinds[SweepEvent] = Kinds([RungDecided, SweepRestarted, TrialArchived, SweepCancelled])
"""Every kind by its name in the file; `SWEEP_KINDS.table()` documents them."""

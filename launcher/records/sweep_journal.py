"""Events in the events.jsonl of a sweep, with one frozen type for each kind."""

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
    """Name of the first array of these trials."""
    rung: int
    """Number of the rung, from 0."""
    step: int
    """Step at which the trials were compared."""
    kept: Sequence[str]
    """Trials that continue, those of the best setting first."""
    dropped: Mapping[str, str]
    """Trials that stop at the rung, each with the reason."""


@record
class SweepRestarted(SweepEvent):
    """Every trial is run again; earlier decisions of successive halving no longer apply."""

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
    """Whether running trials were not killed, but asked to save and stop."""


SWEEP_KINDS: Kinds[SweepEvent] = Kinds([RungDecided, SweepRestarted, TrialArchived, SweepCancelled])
"""All kinds of events, by their names in the file; `SWEEP_KINDS.table()` documents them."""

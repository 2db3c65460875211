"""What the journal holds of a run's attempts. Pure, over its events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.journal.events import (
    AttemptBegun,
    AttemptEvent,
    Crashed,
    Preempted,
    RunFinished,
    StartTimed,
    Submitted,
)
from train.journal.phases import Phase
from train.journal.reading import attempts_in, newest, of_kind, step_saved
from train.records.base import RunEvent
from train.rundir import FINAL_STOPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a job, as far as it wrote down what became of it."""

    number: int
    job_id: str | None
    nodes: str | None
    """As Slurm writes them; None on a single machine."""
    started: float
    """Seconds since the epoch."""
    progressed: bool
    """Whether it made a checkpoint of a step that none before it had reached."""
    stopped_for_good: bool
    """By `shardline stop`, or at a rung of a sweep."""
    ended: str | None
    """Why it ended; None while it runs, and when it was killed without a word."""
    start: Mapping[Phase, float] | None = None
    """Seconds by phase from a rank's exec to its first step, of the newest start in place; None before it."""


def attempts_of(events: Sequence[RunEvent]) -> list[Attempt]:
    """All attempts, oldest first."""
    best = 0
    found = []
    for number in attempts_in(events):
        mine = [event for event in of_kind(events, AttemptEvent) if event.attempt == number]
        reached = step_saved(mine) or 0
        found.append(_attempt(number, mine, progressed=reached > best))
        best = max(best, reached)
    return found


def since_last_submit(events: Sequence[RunEvent]) -> list[RunEvent]:
    """The journal from the newest submission on: what was before it is settled."""
    last = max((i for i, event in enumerate(events) if isinstance(event, Submitted)), default=0)
    return list(events[last:])


def stalled_attempts(events: Sequence[RunEvent]) -> list[Attempt]:
    """The newest attempts of the newest submission, as many in a row as made no progress."""
    current = attempts_in(since_last_submit(events))
    stalled: list[Attempt] = []
    for attempt in reversed(attempts_of(events)):
        if attempt.progressed or attempt.number not in current:
            break
        stalled.insert(0, attempt)
    return stalled


def unfit_nodes(events: Sequence[RunEvent]) -> list[str]:
    """Nodes that failed a check at some start, and that later starts avoid."""
    return sorted({crash.host for crash in of_kind(events, Crashed) if crash.failure_class == "node"})


def silent_end(attempt: Attempt) -> str:
    """Words for an attempt that said nothing before it ended."""
    where = f" on {attempt.nodes}" if attempt.nodes else ""
    return f"attempt {attempt.number}{where} was killed without a word"


def _attempt(number: int, events: Sequence[AttemptEvent], *, progressed: bool) -> Attempt:
    begun = next(iter(of_kind(events, AttemptBegun)), None)
    stop = next(iter(of_kind(events, Preempted)), None)
    crashes = [crash for crash in of_kind(events, Crashed) if crash.then != "restart"]
    timed = newest(events, StartTimed)
    ended: str | None = None
    if of_kind(events, RunFinished):
        ended = "finished"
    elif crashes:
        ended = crashes[-1].reason
    elif stop:
        ended = f"stopped by {stop.reason} after step {stop.step}"
    return Attempt(
        number=number,
        job_id=begun.job_id if begun else None,
        nodes=begun.nodes if begun else None,
        started=(begun or events[0]).time,
        progressed=progressed,
        stopped_for_good=stop is not None and stop.reason in FINAL_STOPS,
        ended=ended,
        start=timed.seconds if timed else None,
    )

"""The attempts of a run, from the events of its journal. Pure functions."""

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
    """One start of a job, with what it recorded in the journal."""

    number: int
    job_id: str | None
    nodes: str | None
    """Node list in Slurm's notation; None without Slurm."""
    started: float
    """Seconds since the epoch."""
    progressed: bool
    """Whether it saved a checkpoint of a later step than all attempts before it."""
    stopped_for_good: bool
    """Whether it was stopped by `shardline stop` or at a rung of a sweep."""
    ended: str | None
    """Why it ended; None while it runs, or if it was killed without recording a reason."""
    start: Mapping[Phase, float] | None = None
    """Seconds of each phase of the newest start of the ranks, up to the first step; None before that step."""


def attempts_of(events: Sequence[RunEvent]) -> list[Attempt]:
    """Return all attempts, oldest first."""
    best = 0
    found = []
    for number in attempts_in(events):
        mine = [event for event in of_kind(events, AttemptEvent) if event.attempt == number]
        reached = step_saved(mine) or 0
        found.append(_attempt(number, mine, progressed=reached > best))
        best = max(best, reached)
    return found


def since_last_submit(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Return the events since the newest submission."""
    last = max((i for i, event in enumerate(events) if isinstance(event, Submitted)), default=0)
    return list(events[last:])


def stalled_attempts(events: Sequence[RunEvent]) -> list[Attempt]:
    """Return the consecutive newest attempts of the newest submission that made no progress."""
    current = attempts_in(since_last_submit(events))
    stalled: list[Attempt] = []
    for attempt in reversed(attempts_of(events)):
        if attempt.progressed or attempt.number not in current:
            break
        stalled.insert(0, attempt)
    return stalled


def unfit_nodes(events: Sequence[RunEvent]) -> list[str]:
    """Return the nodes that failed a check at a start, to exclude them from later starts."""
    return sorted({crash.host for crash in of_kind(events, Crashed) if crash.failure_class == "node"})


def silent_end(attempt: Attempt) -> str:
    """Describe an attempt that ended without recording a reason."""
    where = f" on {attempt.nodes}" if attempt.nodes else ""
    return f"attempt {attempt.number}{where} ended without recording a reason (killed or node failure)"


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

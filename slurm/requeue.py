"""Whether a job whose ranks have ended goes back into the queue. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

ATTEMPTS_WITHOUT_PROGRESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended, as far as the run directory and Slurm tell."""

    over: bool
    """The run is finished, or failed in a way that another attempt would repeat."""
    stopped_for_good: bool
    """By `shardline stop`, or at a rung of a sweep."""
    taken_away: bool
    """Slurm is ending the job itself: scancel, or it puts it back into the queue without being asked."""
    stalled: int
    """Attempts, this one included, since a checkpoint was last made."""
    reasons: Sequence[str]
    """Why each of these attempts ended."""
    may_requeue: bool
    """slurm.requeue."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Go on in another allocation."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The job is over; the run directory says how."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No progress: more attempts would burn more hours."""

    causes: str


def decide(ending: Ending) -> Requeue | Leave | GiveUp:
    """What follows an attempt.

    A preemption, a time limit and a lost node are all alike here: what counts is whether the run gets on.
    """
    if ending.over or ending.stopped_for_good or ending.taken_away:
        return Leave()
    if ending.stalled >= ATTEMPTS_WITHOUT_PROGRESS:
        return GiveUp("; ".join(ending.reasons))
    return Requeue() if ending.may_requeue else Leave()

"""The decision whether to requeue a job whose ranks have ended. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

ATTEMPTS_WITHOUT_PROGRESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended, according to the run directory and Slurm."""

    over: bool
    """Whether the run is finished, or failed with an error that another attempt would repeat."""
    stopped_for_good: bool
    """Whether `shardline stop` or a rung of a sweep ended it."""
    taken_away: bool
    """Whether Slurm itself is ending the job, because of scancel or because it requeues the job."""
    stalled: int
    """Number of attempts since the last new checkpoint, including this one."""
    reasons: Sequence[str]
    """The reasons why these attempts ended."""
    may_requeue: bool
    """The value of slurm.requeue."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """The job is requeued and the run continues in another allocation."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The job ends; the run directory has the outcome."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job ends because several attempts in a row made no progress."""

    causes: str
    """The reasons of these attempts."""


def decide(ending: Ending) -> Requeue | Leave | GiveUp:
    """Decide whether the job is requeued after an attempt.

    A preemption, a time limit and a lost node are treated alike: only the run's progress counts.
    """
    if ending.over or ending.stopped_for_good or ending.taken_away:
        return Leave()
    if ending.stalled >= ATTEMPTS_WITHOUT_PROGRESS:
        return GiveUp("; ".join(ending.reasons))
    return Requeue() if ending.may_requeue else Leave()

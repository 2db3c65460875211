"""What Slurm says of the jobs of some runs: one squeue, and one sacct where that leaves questions."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from slurm.client import SlurmError, accounting, queue
from slurm.states import JobRecord, newest

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class QueueView:
    """Jobs by key, as the controller and the accounting database know them."""

    jobs: Mapping[str, JobRecord] = field(default_factory=dict)
    starts: Mapping[str, Sequence[JobRecord]] = field(default_factory=dict)
    """From the accounting database, where there is one: every start of a job, oldest first."""
    error: str | None = None
    """Why nothing is known, when Slurm did not answer."""


NOTHING_ASKED = QueueView()


def look(names: Collection[str], silent: Collection[str] = ()) -> QueueView:
    """Ask about jobs by key (`slurm.environment.job_key`).

    Args:
        names: Jobs whose state is wanted.
        silent: Those of which the run directory does not say why a start ended.
    """
    if not names and not silent:
        return NOTHING_ASKED
    try:
        jobs = newest(record for record in queue(_PATIENCE_S) if record.key in names)
    except SlurmError as error:
        return QueueView(error=str(error))
    starts: dict[str, list[JobRecord]] = {}
    for record in sorted(accounting({*names, *silent} - (jobs.keys() - set(silent))), key=_start):
        starts.setdefault(record.key, []).append(record)
    past = {name: records[-1] for name, records in starts.items()}
    return QueueView({**past, **jobs}, starts)


class RecentView:
    """For programs that ask often: the same answer for some seconds."""

    def __init__(self, max_age_s: float = 3.0) -> None:
        """Ask Slurm not more often than this."""
        self._max_age_s = max_age_s
        self._asked_at = float("-inf")
        self._view = NOTHING_ASKED

    def look(self, names: Collection[str], silent: Collection[str] = ()) -> QueueView:
        """As `look`, from memory where that is fresh enough."""
        if time.monotonic() - self._asked_at > self._max_age_s:
            self._view = look(names, silent)
            self._asked_at = time.monotonic()
        return self._view


def _start(record: JobRecord) -> str:
    return record.start or ""

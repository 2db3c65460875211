"""The state of jobs in Slurm: one call of squeue, and one of sacct for jobs that are not in the queue."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from slurm.client import SlurmError, accounting, queue
from slurm.states import JobRecord, newest

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class QueueView:
    """Jobs by key, from the controller and the accounting database."""

    jobs: Mapping[str, JobRecord] = field(default_factory=dict)
    starts: Mapping[str, Sequence[JobRecord]] = field(default_factory=dict)
    """Every start of a job, oldest first, from the accounting database if there is one."""
    error: str | None = None
    """The error if Slurm did not answer."""


NOTHING_ASKED = QueueView()


def look(names: Collection[str], silent: Collection[str] = ()) -> QueueView:
    """Query Slurm for jobs by key (`slurm.environment.job_key`).

    Args:
        names: Jobs whose state to query.
        silent: Jobs with a start that ended without a reason in the run directory.
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
    """Caches the answer of Slurm for some seconds, for programs that ask often."""

    def __init__(self, max_age_s: float = 3.0) -> None:
        """Set the age at which an answer expires."""
        self._max_age_s = max_age_s
        self._asked_at = float("-inf")
        self._view = NOTHING_ASKED

    def look(self, names: Collection[str], silent: Collection[str] = ()) -> QueueView:
        """Query Slurm like the function `look`, or return the cached answer if it has not expired."""
        if time.monotonic() - self._asked_at > self._max_age_s:
            self._view = look(names, silent)
            self._asked_at = time.monotonic()
        return self._view


def _start(record: JobRecord) -> str:
    return record.start or ""

"""jobs.jsonl: an intent before a job is started, its id after. Between them, the job's name finds it."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, TypeVar

import psutil

from train.records.base import Record, RecordError, now, parse_line, record, to_row
from train.records.reading import from_row
from train.rundir import RunDir, append_line, new_lines

Executor = Literal["local", "slurm"]
R = TypeVar("R", bound=Record)


@record
class Intent(Record):
    """A job is about to be started."""

    time: float = field(default_factory=now)
    intent: Literal["submit"] = "submit"
    executor: Executor
    name: str | None
    """The job's name under Slurm; None without Slurm."""


@record
class Job(Record):
    """The job that works on a run or on an array of a sweep."""

    time: float = field(default_factory=now)
    job_id: str
    """Slurm's id; on this machine the process's."""
    name: str | None
    """The job's name under Slurm, or the slice's."""
    executor: Executor = "slurm"
    """Slurm where it is absent."""
    host: str | None = None
    """The machine, for a job that Slurm does not run."""
    started: float | None = None
    """When its process was started: tells it from a later process with the same number."""

    @property
    def is_here(self) -> bool:
        """Whether its process is, or was, one of this machine."""
        return self.host == os.uname().nodename


def read_rows(path: Path, kinds: Mapping[str, type[R]]) -> Iterator[R]:
    """The rows of a jobs.jsonl, oldest first; lines that a kill cut short are left out.

    Args:
        path: The file.
        kinds: By the key that only rows of this kind have.

    Raises:
        RecordError: a row is of no known kind, or a field is missing, unknown or invalid.
    """
    for number, line in enumerate(new_lines(path, 0)[0], 1):
        row = parse_line(line)
        if row is None:
            continue
        cls = next((cls for key, cls in kinds.items() if key in row), None)
        if cls is None:
            keys = ", ".join(kinds)
            raise RecordError(f"{path}:{number}: row of an unknown kind; one of these keys is needed: {keys}")
        yield from_row(cls, row, f"{path}:{number}")


def append_row(path: Path, row: Record) -> None:
    """Append a row to a jobs.jsonl."""
    append_line(path, to_row(row))


_KINDS: dict[str, type[Intent] | type[Job]] = {"intent": Intent, "job_id": Job}


def read_jobs(run: RunDir) -> list[Intent | Job]:
    """All rows of a run's jobs.jsonl, oldest first."""
    return list(read_rows(run.jobs, _KINDS))


def next_name(run_name: str, root: str, earlier: int) -> str:
    """Name of a start under Slurm: the run's, and what tells it from all others of all runs directories."""
    return f"{run_name}.{hashlib.sha256(f'{root}:{earlier}'.encode()).hexdigest()[:8]}"


def intents(run: RunDir) -> list[Intent]:
    """Every time a job was about to be started, oldest first."""
    return [row for row in read_jobs(run) if isinstance(row, Intent)]


def record_intent(run: RunDir, executor: Executor, name: str | None) -> None:
    """Note that a job is about to be started."""
    append_row(run.jobs, Intent(executor=executor, name=name))


def record_job(run: RunDir, job_id: str, name: str | None) -> None:
    """Note which job works on a run. Submit and job both do: a kill between them loses neither."""
    append_row(run.jobs, Job(job_id=job_id, name=name, executor="slurm") if name else local_job(job_id, name))


def local_job(job_id: str, name: str | None) -> Job:
    """A job on this machine, with what tells it from a later process that got the same number."""
    try:
        started = psutil.Process(int(job_id)).create_time()
    except psutil.NoSuchProcess:
        started = None
    return Job(job_id=job_id, name=name, executor="local", host=os.uname().nodename, started=started)


def is_alive(job: Job) -> bool:
    """Whether a local job's own process still runs, not a later one with the same number."""
    if not job.is_here:
        return False
    try:
        process = psutil.Process(int(job.job_id))
        same = abs(process.create_time() - (job.started or 0)) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_executor(run: RunDir) -> Executor:
    """What started the run's newest job."""
    return read_jobs(run)[-1].executor


def latest_name(run: RunDir) -> str | None:
    """Name under which the run was last submitted to Slurm."""
    found = intents(run)
    return found[-1].name if found else None

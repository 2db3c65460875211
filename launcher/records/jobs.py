"""The file jobs.jsonl: an intent before a job is started and its id after. The job's name connects them."""

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
    """Slurm's id of the job, or the id of the local process."""
    name: str | None
    """The job's name under Slurm, or the name of an array of a local sweep."""
    executor: Executor = "slurm"
    """The executor; Slurm if it is absent."""
    host: str | None = None
    """The machine of a local job."""
    started: float | None = None
    """Start time of a local process, which distinguishes it from later processes with the same id."""

    @property
    def is_here(self) -> bool:
        """Whether the job is a process of this machine."""
        return self.host == os.uname().nodename


def read_rows(path: Path, kinds: Mapping[str, type[R]]) -> Iterator[R]:
    """Yield the rows of a jobs.jsonl, oldest first, without incomplete lines.

    Args:
        path: The file.
        kinds: Types of rows, each by a key that only its rows have.

    Raises:
        RecordError: The kind of a row is unknown, or a field is missing, unknown or invalid.
    """
    for number, line in enumerate(new_lines(path, 0)[0], 1):
        row = parse_line(line)
        if row is None:
            continue
        cls = next((cls for key, cls in kinds.items() if key in row), None)
        if cls is None:
            keys = ", ".join(kinds)
            raise RecordError(f"{path}:{number}: unknown kind of row; it needs one of these keys: {keys}")
        yield from_row(cls, row, f"{path}:{number}")


def append_row(path: Path, row: Record) -> None:
    """Append a row to a jobs.jsonl."""
    append_line(path, to_row(row))


_KINDS: dict[str, type[Intent] | type[Job]] = {"intent": Intent, "job_id": Job}


def read_jobs(run: RunDir) -> list[Intent | Job]:
    """Return all rows of a run's jobs.jsonl, oldest first."""
    return list(read_rows(run.jobs, _KINDS))


def next_name(run_name: str, root: str, earlier: int) -> str:
    """Return a job name for Slurm: the name of the run, and a hash that makes it unique.

    Args:
        run_name: Name of the run or sweep.
        root: Path of its directory.
        earlier: Number of earlier starts.
    """
    return f"{run_name}.{hashlib.sha256(f'{root}:{earlier}'.encode()).hexdigest()[:8]}"


def intents(run: RunDir) -> list[Intent]:
    """Return the intents of a run, oldest first."""
    return [row for row in read_jobs(run) if isinstance(row, Intent)]


def record_intent(run: RunDir, executor: Executor, name: str | None) -> None:
    """Record that a job is about to be started."""
    append_row(run.jobs, Intent(executor=executor, name=name))


def record_job(run: RunDir, job_id: str, name: str | None) -> None:
    """Record the job of a run. Both submit and job do so, in case the submit is killed before it can."""
    append_row(run.jobs, Job(job_id=job_id, name=name, executor="slurm") if name else local_job(job_id, name))


def local_job(job_id: str, name: str | None) -> Job:
    """Make the record of a job on this machine, with the start time of its process."""
    try:
        started = psutil.Process(int(job_id)).create_time()
    except psutil.NoSuchProcess:
        started = None
    return Job(job_id=job_id, name=name, executor="local", host=os.uname().nodename, started=started)


def is_alive(job: Job) -> bool:
    """Return whether the process of a local job is alive, not a later process with the same id."""
    if not job.is_here:
        return False
    try:
        process = psutil.Process(int(job.job_id))
        same = abs(process.create_time() - (job.started or 0)) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_executor(run: RunDir) -> Executor:
    """Return the executor of a run's newest job."""
    return read_jobs(run)[-1].executor


def latest_name(run: RunDir) -> str | None:
    """Return the name under which a run was last submitted to Slurm."""
    found = intents(run)
    return found[-1].name if found else None

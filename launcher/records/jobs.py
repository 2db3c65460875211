"""jobs.jsonl: an intent before a job is started, its id after. Between them, the job's name finds it."""

import hashlib
import os
import time
from typing import Any

import psutil

from train.rundir import RunDir, append_line, read_lines


def next_name(run_name: str, root: str, earlier: int) -> str:
    """Name of a start under Slurm: the run's, and what tells it from all others of all runs directories."""
    return f"{run_name}.{hashlib.sha256(f'{root}:{earlier}'.encode()).hexdigest()[:8]}"


def intents(run: RunDir) -> int:
    """How often a job was about to be started."""
    return sum("intent" in row for row in read_lines(run.jobs))


def record_intent(run: RunDir, executor: str, name: str | None) -> None:
    """Say that a job is about to be started."""
    append_line(
        run.jobs, {"time": round(time.time(), 3), "intent": "submit", "executor": executor, "name": name}
    )


def record_job(run: RunDir, job_id: str, name: str | None) -> None:
    """Note which job works on a run. Submit and job both do: a kill between them loses neither."""
    row: dict[str, Any] = {"time": round(time.time(), 3), "job_id": job_id, "name": name}
    append_line(run.jobs, row | ({"executor": "slurm"} if name else local_job(job_id)))


def local_job(job_id: str) -> dict[str, Any]:
    """What tells a job on this machine from a later process that got the same number."""
    try:
        started = psutil.Process(int(job_id)).create_time()
    except psutil.NoSuchProcess:
        started = None
    return {"executor": "local", "host": os.uname().nodename, "started": started}


def run_executor(run: RunDir) -> str:
    """What started the run's newest job: `local` or `slurm`."""
    return str(list(read_lines(run.jobs))[-1]["executor"])


def latest_name(run: RunDir) -> str | None:
    """Name under which the run was last submitted to Slurm."""
    rows = [row for row in read_lines(run.jobs) if "intent" in row]
    return rows[-1].get("name") if rows else None

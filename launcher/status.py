"""What became of a run, read from its directory and, while it may live, from its process."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from train.rundir import RunDir, read_lines

_START_S = 60.0
State = Literal["PENDING", "RUNNING", "PREEMPTED", "COMPLETED", "FAILED", "CANCELLED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One line of `shardline status`; with `--json`, exactly these fields."""

    run: str
    dir: str
    state: State
    step: int
    total_steps: int | None
    attempt: int
    restarts: int
    job_id: str | None
    why: str


def read_status(run: RunDir) -> RunStatus:
    """Judge one run; one whose files cannot be read is FAILED with that reason, and hides no other."""
    try:
        return _read_status(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return RunStatus(
            run=run.root.name,
            dir=str(run.root),
            state="FAILED",
            step=0,
            total_steps=None,
            attempt=0,
            restarts=0,
            job_id=None,
            why=f"its files cannot be read: {type(error).__name__}: {error}",
        )


def _read_status(run: RunDir) -> RunStatus:
    events, jobs = list(read_lines(run.events)), list(read_lines(run.jobs))
    started = [row for row in events if row["event"] == "started"]
    plan = json.loads(run.plan.read_text())
    state, why = _judge(run, events, jobs)
    return RunStatus(
        run=run.root.name,
        dir=str(run.root),
        state=state,
        step=_last_step(run.metrics),
        total_steps=started[-1]["total_steps"] if started else plan["time"]["total_steps"],
        attempt=max((row["attempt"] for row in events if "attempt" in row), default=0),
        restarts=sum(row["event"] == "crashed" and row["then"] == "restart" for row in events),
        job_id=next((row["job_id"] for row in reversed(jobs) if "job_id" in row), None),
        why=why,
    )


def is_alive(job: dict[str, Any]) -> bool:
    """Whether a local job's own process still runs, not a later one with the same number."""
    if job["host"] != os.uname().nodename:
        return False
    try:
        process = psutil.Process(int(job["job_id"]))
        same = abs(process.create_time() - (job["started"] or 0)) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _judge(run: RunDir, events: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> tuple[State, str]:
    since = _since_last_submit(events)
    kinds = [row["event"] for row in since]
    result = json.loads(run.result.read_text()) if run.result.exists() else None
    if result and result["outcome"] == "COMPLETED":
        return "COMPLETED", ""
    if "cancelled" in kinds:
        return "CANCELLED", "cancelled by you"
    if result:
        return "FAILED", str(result["why"])
    if not jobs:
        return "FAILED", "it was made and never started; resume starts it"
    if "job_id" not in jobs[-1]:
        # An intent: the job that it announces writes its id within seconds, or there is none.
        young = time.time() - jobs[-1]["time"] < _START_S
        return (
            ("PENDING", "being started") if young else ("FAILED", "its start was cut short; resume starts it")
        )
    if is_alive(jobs[-1]):
        phase = next((row["phase"] for row in reversed(since) if row["event"] == "phase"), None)
        return ("RUNNING", phase) if phase else ("PENDING", "starting")
    if "preempted" in kinds:
        stop = next(row for row in reversed(since) if row["event"] == "preempted")
        return "PREEMPTED", f"stopped by {stop['reason']} after step {stop['step']}"
    if jobs[-1]["host"] != os.uname().nodename:
        return "RUNNING", f"started on {jobs[-1]['host']}; ask there"
    return "FAILED", "its process ended without a word (killed, or the machine went down); resume goes on"


def _since_last_submit(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = max((i for i, row in enumerate(events) if row["event"] == "submitted"), default=0)
    return events[last:]


def _last_step(metrics: Path) -> int:
    """Step of the last whole line, without reading the file from its start."""
    if not metrics.exists():
        return 0
    with metrics.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().split(b"\n")[:-1]
    return int(json.loads(lines[-1])["step"]) if lines and lines[-1] else 0

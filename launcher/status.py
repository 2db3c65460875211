"""What became of runs, read from their directories and, while they may live, from a process or from Slurm."""

import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from launcher.history import Attempt, Event, attempts_of, short_notice, since_last_submit
from launcher.queue_view import NOTHING_ASKED, QueueView, look
from slurm.states import JobRecord, why_ended, why_waiting
from train.rundir import RunDir, read_lines

_START_S = 60.0
_ETA_ROWS = 50
State = Literal["PENDING", "RUNNING", "PREEMPTED", "COMPLETED", "FAILED", "CANCELLED"]
Look = Callable[[Collection[str], Collection[str]], QueueView]


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
    """Starts in place, inside an allocation."""
    job_id: str | None
    why: str
    nodes: str | None = None
    eta_s: float | None = None
    """Seconds of training left, while it runs."""
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What one run directory says."""

    run: RunDir
    events: Sequence[Event]
    jobs: Sequence[Event]
    result: dict[str, Any] | None
    planned_steps: int | None
    attempts: Sequence[Attempt]

    @property
    def job_name(self) -> str | None:
        """Under which the run was last submitted to Slurm."""
        return self.jobs[-1].get("name") if self.jobs else None

    @property
    def since(self) -> Sequence[Event]:
        """The journal since the newest submission."""
        return since_last_submit(self.events)

    @property
    def silent(self) -> bool:
        """Whether an attempt ended that did not say why."""
        return any(attempt.ended is None for attempt in self.attempts)

    def phase(self) -> str | None:
        """What the run said last that it does, and whether it could still save when asked to stop."""
        phase = next((row["phase"] for row in reversed(self.since) if row["event"] == "phase"), None)
        short = [row for row in self.since if row["event"] == "short_notice"]
        if phase is None or not short:
            return phase
        return f"{phase}; {short_notice(short[-1])}"


def read_statuses(runs: Sequence[RunDir], ask: Look = look) -> list[RunStatus]:
    """Judge runs; one whose files cannot be read is FAILED with that reason, and hides no other."""
    read = [_read(run) for run in runs]
    open_runs = [files for files in read if isinstance(files, _Files) and files.job_name and not files.result]
    view = (
        ask(
            [str(files.job_name) for files in open_runs],
            [str(files.job_name) for files in open_runs if files.silent],
        )
        if open_runs
        else NOTHING_ASKED
    )
    return [_status(files, view) if isinstance(files, _Files) else files for files in read]


def read_status(run: RunDir, ask: Look = look) -> RunStatus:
    """Judge one run."""
    [status] = read_statuses([run], ask)
    return status


def _read(run: RunDir) -> "_Files | RunStatus":
    try:
        events = list(read_lines(run.events))
        return _Files(
            run=run,
            events=events,
            jobs=list(read_lines(run.jobs)),
            result=json.loads(run.result.read_text()) if run.result.exists() else None,
            planned_steps=json.loads(run.plan.read_text())["time"]["total_steps"],
            attempts=attempts_of(events),
        )
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


def _status(files: _Files, view: QueueView) -> RunStatus:
    started = [row for row in files.events if row["event"] == "started"]
    total = started[-1]["total_steps"] if started else files.planned_steps
    record = view.jobs.get(files.job_name or "")
    state, why = _judge(files, record, view)
    rows = _last_metrics(files.run.metrics)
    step = int(rows[-1]["step"]) if rows else 0
    noted = next((row["job_id"] for row in reversed(files.jobs) if "job_id" in row), None)
    return RunStatus(
        run=files.run.root.name,
        dir=str(files.run.root),
        state=state,
        step=step,
        total_steps=total,
        attempt=max((attempt.number for attempt in files.attempts), default=0),
        restarts=sum(row["event"] == "crashed" and row["then"] == "restart" for row in files.events),
        job_id=record.job_id if record else noted,
        why=why,
        nodes=(record.nodes or None) if record and state == "RUNNING" else None,
        eta_s=_eta_s(rows, total) if state == "RUNNING" else None,
        attempts=_explained(files.attempts, view.starts.get(files.job_name or "", ())),
    )


def _judge(files: _Files, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    if settled := _settled(files, record):
        return settled
    if not files.jobs:
        return "FAILED", "it was made and never started; resume starts it"
    last = files.jobs[-1]
    if files.job_name and (record or view.error):
        return _judge_by_slurm(files, record, view)
    if "job_id" not in last:
        # An intent: the job that it announces writes its id within seconds, or there is none.
        if time.time() - last["time"] < _START_S:
            return "PENDING", "being started"
        return "FAILED", "its start was cut short; resume starts it"
    if last["executor"] == "local" and is_alive(last):
        phase = files.phase()
        return ("RUNNING", phase) if phase else ("PENDING", "starting")
    if stop := _stop(files):
        return stop
    if last["executor"] == "slurm":
        return "FAILED", "Slurm no longer knows its job; resume goes on"
    if last["host"] != os.uname().nodename:
        return "RUNNING", f"started on {last['host']}; ask there"
    return "FAILED", "its process ended without a word (killed, or the machine went down); resume goes on"


def _settled(files: _Files, record: JobRecord | None) -> tuple[State, str] | None:
    """What no process and no queue can change."""
    if files.result and files.result["outcome"] == "COMPLETED":
        early = files.result.get("ended_early")
        return "COMPLETED", f"ended early: {early}" if early else ""
    if any(row["event"] == "cancelled" for row in files.since):
        going = record is not None and record.phase == "active"
        return ("RUNNING", "being cancelled") if going else ("CANCELLED", "cancelled by you")
    return ("FAILED", str(files.result["why"])) if files.result else None


def _stop(files: _Files) -> tuple[State, str] | None:
    """An agreed stop that nothing followed."""
    stops = [row for row in files.since if row["event"] == "preempted"]
    return (
        ("PREEMPTED", f"stopped by {stops[-1]['reason']} after step {stops[-1]['step']}") if stops else None
    )


def _judge_by_slurm(files: _Files, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    if record is None:
        return ("RUNNING" if files.phase() else "PENDING"), f"Slurm does not answer: {view.error}"
    if record.phase == "waiting":
        current = {row["attempt"] for row in files.since if "attempt" in row}
        ended = [attempt for attempt in files.attempts if attempt.number in current]
        before = f"attempt {ended[-1].number} {ended[-1].ended or 'was killed'}; " if ended else ""
        return "PENDING", before + why_waiting(record)
    if record.phase == "active":
        return "RUNNING", files.phase() or record.state.lower()
    if record.state == "CANCELLED":
        return "CANCELLED", "cancelled in Slurm"
    return _stop(files) or ("FAILED", f"{why_ended(record.state)}; resume goes on")


def _explained(attempts: Sequence[Attempt], starts: Sequence[JobRecord]) -> list[Attempt]:
    """Attempts that ended without a word, explained by what the accounting database kept of each start."""
    explained = []
    for attempt in attempts:
        same_job = [record for record in starts if record.job_id == attempt.job_id]
        earlier = sum(other.job_id == attempt.job_id and other.number < attempt.number for other in attempts)
        if attempt.ended is None and earlier < len(same_job) and same_job[earlier].phase == "ended":
            record = same_job[earlier]
            explained.append(
                replace(attempt, ended=f"{why_ended(record.state)} ({record.state} {record.nodes})")
            )
        else:
            explained.append(attempt)
    return explained


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


def _eta_s(rows: Sequence[Event], total: int | None) -> float | None:
    """From the newest steps since the ranks last started: there the count goes back."""
    newest: list[Event] = []
    for row in reversed(rows):
        if newest and row["step"] >= newest[-1]["step"]:
            break
        newest.append(row)
    if total is None or len(newest) < 2:
        return None
    last, first = newest[0], newest[-1]
    per_step_s: float = (float(last["time"]) - float(first["time"])) / (last["step"] - first["step"])
    return round(per_step_s * (total - int(last["step"])), 1)


def _last_metrics(metrics: Path) -> list[Event]:
    """The last whole lines, without reading the file from its start."""
    if not metrics.exists():
        return []
    with metrics.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _ETA_ROWS * 256))
        lines = file.read().split(b"\n")[:-1]
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if "step" in row]

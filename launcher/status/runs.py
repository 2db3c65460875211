"""The status of runs, read from their directories and, if they may be active, from a process or Slurm."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.records.history import Attempt, attempts_of
from launcher.records.jobs import Job, read_jobs
from launcher.records.plans import read_planned_length
from launcher.status.queue import NOTHING_ASKED, QueueView, look
from launcher.status.state import RunFiles, State, Unstarted, judge, judge_unstarted
from slurm.states import JobRecord, why_ended
from train.journal.events import Started
from train.journal.reading import newest, read_journal, restarts_in
from train.metrics import MetricsRow, parse_metrics
from train.result import finished_result, read_result
from train.rundir import RunDir

_ETA_ROWS = 50
_ROW_BYTES = 512
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
    """Number of restarts of the ranks within an allocation."""
    job_id: str | None
    why: str
    nodes: str | None = None
    eta_s: float | None = None
    """Seconds of training left, while it runs."""
    attempts: Sequence[Attempt] = ()


def read_statuses(
    runs: Sequence[RunDir | Unstarted], ask: Look = look, *, attempts: bool = True
) -> list[RunStatus]:
    """Read the status of runs with one query to the queue.

    A run whose files cannot be read is FAILED; the others are not affected.

    Args:
        runs: Run directories, and trials without a run directory.
        ask: Function that queries Slurm.
        attempts: Whether to read the journals of finished runs too, to report why each attempt ended.
    """
    read = [run if isinstance(run, Unstarted) else _read(run, attempts=attempts) for run in runs]
    open_runs = [
        files for files in read if isinstance(files, RunFiles) and files.job_name and not files.result
    ]
    waiting = [trial.key for trial in read if isinstance(trial, Unstarted) and trial.key]
    names = [*waiting, *(str(files.job_name) for files in open_runs)]
    silent = [str(files.job_name) for files in open_runs if files.silent]
    view = ask(names, silent) if names else NOTHING_ASKED
    return [_judged(found, view) for found in read]


def _judged(found: "RunFiles | Unstarted | RunStatus", view: QueueView) -> RunStatus:
    if isinstance(found, RunFiles):
        return _status(found, view)
    return _unstarted(found, view) if isinstance(found, Unstarted) else found


def read_status(run: RunDir, ask: Look = look) -> RunStatus:
    """Read the status of one run."""
    [status] = read_statuses([run], ask)
    return status


def _read(run: RunDir, *, attempts: bool) -> "RunFiles | RunStatus":
    try:
        if not attempts and (finished := _finished(run)):
            return finished
        events = read_journal(run.events)
        return RunFiles(
            run=run,
            events=events,
            jobs=read_jobs(run),
            result=read_result(run),
            planned_steps=read_planned_length(run).total_steps,
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
            why=f"cannot read the run directory: {type(error).__name__}: {error}",
        )


def _finished(run: RunDir) -> RunStatus | None:
    """Return the status of a finished run from result.json alone, or None if it is not finished."""
    result = finished_result(run)
    if result is None:
        return None
    return RunStatus(
        run=run.root.name,
        dir=str(run.root),
        state="COMPLETED",
        step=result.step,
        total_steps=result.total_steps,
        attempt=result.attempts,
        restarts=result.restarts,
        job_id=result.job_id,
        why=f"ended early: {result.ended_early}" if result.ended_early else "",
    )


def _unstarted(trial: Unstarted, view: QueueView) -> RunStatus:
    record = view.jobs.get(trial.key or "")
    state, why = judge_unstarted(trial, record, view)
    return RunStatus(
        run=trial.name,
        dir=str(trial.root),
        state=state,
        step=trial.paused_at or 0,
        total_steps=None,
        attempt=0,
        restarts=0,
        job_id=record.job_id if record else None,
        why=why,
    )


def _status(files: RunFiles, view: QueueView) -> RunStatus:
    started = newest(files.events, Started)
    total = started.total_steps if started else files.planned_steps
    record = view.jobs.get(files.job_name or "")
    state, why = judge(files, record, view)
    rows = _last_metrics(files.run.metrics)
    step = rows[-1].step if rows else 0
    noted = next((row.job_id for row in reversed(files.jobs) if isinstance(row, Job)), None)
    return RunStatus(
        run=files.run.root.name,
        dir=str(files.run.root),
        state=state,
        step=step,
        total_steps=total,
        attempt=max((attempt.number for attempt in files.attempts), default=0),
        restarts=restarts_in(files.events),
        job_id=record.job_id if record else noted,
        why=why,
        nodes=(record.nodes or None) if record and state == "RUNNING" else None,
        eta_s=_eta_s(rows, total) if state == "RUNNING" else None,
        attempts=_explained(files.attempts, view.starts.get(files.job_name or "", ())),
    )


def _explained(attempts: Sequence[Attempt], starts: Sequence[JobRecord]) -> list[Attempt]:
    """Add the reason from Slurm's accounting database to attempts that ended without a recorded reason."""
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


def _eta_s(rows: Sequence[MetricsRow], total: int | None) -> float | None:
    """Estimate the remaining seconds from the newest steps since the ranks last started.

    The step number decreases where ranks were restarted from a checkpoint.
    """
    falling: list[MetricsRow] = []
    for row in reversed(rows):
        if falling and row.step >= falling[-1].step:
            break
        falling.append(row)
    if total is None or len(falling) < 2:
        return None
    last, first = falling[0], falling[-1]
    per_step_s = (last.time - first.time) / (last.step - first.step)
    return round(per_step_s * (total - last.step), 1)


def _last_metrics(metrics: Path) -> list[MetricsRow]:
    """Return the last rows of a metrics file without reading all of it."""
    if not metrics.exists():
        return []
    with metrics.open("rb") as file:
        file.seek(0, os.SEEK_END)
        begin = max(0, file.tell() - _ETA_ROWS * _ROW_BYTES)
        file.seek(begin)
        lines = file.read().split(b"\n")[:-1]
    # Unless the whole file was read, the first line is incomplete.
    return list(parse_metrics(lines[1:] if begin else lines, metrics))

"""What became of a sweep's trials: those that started are judged as any run, the others by their slice."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.judge import Unstarted
from launcher.queue_view import look
from launcher.status import Look, RunStatus, read_statuses
from launcher.sweep.directory import Slice, SweepDir, SweepFile
from slurm.environment import job_key
from train.rundir import RunDir, read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handover:
    """The newest slice that a trial was part of."""

    portion: Slice
    index: int
    job: Mapping[str, Any] | None


def sweep_runs(sweep: SweepDir, file: SweepFile) -> list[RunDir | Unstarted]:
    """Every trial, in the order of the file: its run directory, or that it has not begun."""
    handovers = _handovers(sweep)
    there = {entry.name for entry in os.scandir(sweep.root)}
    cancelled = [row["time"] for row in read_lines(sweep.events) if row["event"] == "cancelled"]
    cancelled_at = max(cancelled, default=0.0)
    runs: list[RunDir | Unstarted] = []
    for trial in file.trials:
        run, handover = sweep.run(trial.name), handovers.get(trial.name)
        if trial.name in there and (handover is None or _begun_since(run, handover.portion.time)):
            runs.append(run)
        else:
            runs.append(_unstarted(run, handover, cancelled_at))
    return runs


def read_sweep(sweep: SweepDir, file: SweepFile, ask: Look = look) -> list[RunStatus]:
    """The status of every trial, in the order of the file."""
    return read_statuses(sweep_runs(sweep, file), ask, attempts=False)


def _handovers(sweep: SweepDir) -> dict[str, _Handover]:
    jobs = sweep.job_ids()
    found: dict[str, _Handover] = {}
    lost = sweep.lost()
    for portion in sweep.slices():
        if portion.rung or portion.name in lost:
            # Who is in a later rung is decided by those that got there: their own directories tell.
            continue
        for index, trial in enumerate(portion.trials):
            found[trial] = _Handover(portion=portion, index=index, job=jobs.get(portion.name))
    return found


def _unstarted(run: RunDir, handover: _Handover | None, cancelled_at: float) -> Unstarted:
    if handover is None:
        return Unstarted(
            name=run.root.name, root=run.root, key=None, job=None, handed_over=None, cancelled=False
        )
    portion = handover.portion
    return Unstarted(
        name=run.root.name,
        root=run.root,
        key=job_key(portion.name, handover.index) if portion.executor == "slurm" else None,
        job=handover.job,
        handed_over=portion.time,
        cancelled=cancelled_at > portion.time,
    )


def _begun_since(run: RunDir, time: float) -> bool:
    """Whether a run was started, or finished for good, after it was handed over."""
    if run.result.exists() and run.result.stat().st_mtime > time:
        return True
    intents = [row["time"] for row in read_lines(run.jobs) if "intent" in row]
    return bool(intents) and max(intents) >= time


def completed(statuses: Sequence[RunStatus]) -> set[str]:
    """Names of the trials that are finished."""
    return {status.run for status in statuses if status.state == "COMPLETED"}

"""The status of the trials of a sweep. Trials that have not started get it from their job array."""

import os
from dataclasses import dataclass

from launcher.node.rungs import halving_events
from launcher.records.history import since_last_submit
from launcher.records.jobs import Job, intents, latest_name
from launcher.records.sweep_journal import SweepCancelled
from launcher.records.sweeps import ArrayJob, SweepDir, SweepFile
from launcher.status.queue import look
from launcher.status.runs import Look, RunStatus, read_statuses
from launcher.status.state import Unstarted
from slurm.environment import job_key
from train.journal.events import Preempted
from train.journal.reading import newest, read_journal
from train.rundir import STOPPED_AT_RUNG, RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handover:
    """The newest job array that a trial belongs to, or may belong to after a rung."""

    array: ArrayJob
    index: int
    job: Job | None
    decided: bool = True
    """False if the trials of this rung are not known yet."""

    @property
    def key(self) -> str | None:
        """Key of the trial's element in the array; None for a local sweep."""
        return job_key(self.array.name, self.index) if self.array.executor == "slurm" else None


def sweep_runs(sweep: SweepDir, file: SweepFile) -> list[RunDir | Unstarted]:
    """Return every trial in the order of the file: its run directory if it has started, else `Unstarted`."""
    handovers = _handovers(sweep)
    there = {entry.name for entry in os.scandir(sweep.root)}
    cancelled = [event.time for event in sweep.read_journal() if isinstance(event, SweepCancelled)]
    cancelled_at = max(cancelled, default=0.0)
    runs: list[RunDir | Unstarted] = []
    for trial in file.trials:
        run, handover = sweep.run(trial.name), handovers.get(trial.name)
        paused = _paused_at(run, handover) if trial.name in there and handover else None
        begun = trial.name in there and (handover is None or _begun_since(run, handover.array.time))
        if begun and paused is None:
            runs.append(run)
        else:
            runs.append(_unstarted(run, handover, cancelled_at, paused))
    return runs


def read_sweep(sweep: SweepDir, file: SweepFile, ask: Look = look) -> list[RunStatus]:
    """Read the status of every trial, in the order of the file."""
    return read_statuses(sweep_runs(sweep, file), ask, attempts=False)


def _handovers(sweep: SweepDir) -> dict[str, _Handover]:
    jobs, lost = sweep.array_jobs(), sweep.lost()
    going = {(event.chain, event.rung + 1): event.kept for event in halving_events(sweep)}
    found: dict[str, _Handover] = {}
    for array in sweep.arrays():
        if array.name in lost:
            continue
        job = jobs.get(array.name)
        if not array.rung or (array.chain, array.rung) in going:
            trials = going[array.chain, array.rung] if array.rung else array.trials
            for index, trial in enumerate(trials):
                found[trial] = _Handover(array=array, index=index, job=job)
            continue
        # The first undecided rung: any trial of the previous rung may reach it.
        before = array.trials if array.rung == 1 else going.get((array.chain, array.rung - 1))
        for trial in before or ():
            found[trial] = _Handover(array=array, index=0, job=job, decided=False)
    return found


def _paused_at(run: RunDir, handover: _Handover) -> int | None:
    """Return the step at which a trial waits for a later rung, or None if it does not wait."""
    if not handover.array.rung or run.result.exists():
        return None
    if handover.decided and handover.key and latest_name(run) == handover.key:
        return None
    stop = newest(since_last_submit(read_journal(run.events)), Preempted)
    return stop.step if stop and stop.reason == STOPPED_AT_RUNG else None


def _unstarted(
    run: RunDir, handover: _Handover | None, cancelled_at: float, paused_at: int | None
) -> Unstarted:
    return Unstarted(
        name=run.root.name,
        root=run.root,
        key=handover.key if handover else None,
        job=handover.job if handover else None,
        handed_over=handover.array.time if handover else None,
        cancelled=handover is not None and cancelled_at > handover.array.time,
        paused_at=paused_at,
    )


def _begun_since(run: RunDir, time: float) -> bool:
    """Return whether a run was started or finished after a time."""
    if run.result.exists() and run.result.stat().st_mtime > time:
        return True
    return any(intent.time >= time for intent in intents(run))

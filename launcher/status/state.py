"""The state of a run, from its directory and the queue. Pure functions, except for checks of processes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.records.history import Attempt, since_last_submit
from launcher.records.jobs import Intent, Job, is_alive
from launcher.status.queue import QueueView
from launcher.words import short_notice
from slurm.states import JobRecord, why_ended, why_waiting
from train.journal.events import Cancelled, PhaseBegun, Preempted, ShortNotice
from train.journal.reading import attempts_in, newest, of_kind
from train.records.base import RunEvent
from train.result import Finished, RunResult
from train.rundir import RunDir

_START_S = 60.0
State = Literal["PENDING", "RUNNING", "PREEMPTED", "COMPLETED", "FAILED", "CANCELLED"]
ALIVE: tuple[State, ...] = ("PENDING", "RUNNING")
"""States of a run with a pending or running job. Such a run can be cancelled and cannot be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstarted:
    """A trial of a sweep that has not started since it was last submitted."""

    name: str
    root: Path
    key: str | None
    """Key of its element in a job array; None for a local sweep, or if it was never submitted."""
    job: Job | None
    """The job that will start it, from the sweep's jobs.jsonl."""
    handed_over: float | None
    """Time of the submission, in seconds since the epoch."""
    cancelled: bool
    paused_at: int | None = None
    """The step at which it waits for the other trials of a rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """Records read from one run directory."""

    run: RunDir
    events: Sequence[RunEvent]
    jobs: Sequence[Intent | Job]
    result: RunResult | None
    planned_steps: int | None
    attempts: Sequence[Attempt]

    @property
    def job_name(self) -> str | None:
        """Name under which the run was last submitted to Slurm."""
        return self.jobs[-1].name if self.jobs else None

    @property
    def since(self) -> Sequence[RunEvent]:
        """Events since the newest submission."""
        return since_last_submit(self.events)

    @property
    def silent(self) -> bool:
        """Whether an attempt has no recorded reason for its end."""
        return any(attempt.ended is None for attempt in self.attempts)

    def phase(self) -> str | None:
        """Return the last phase in the journal, with a warning if a stop leaves too little time to save."""
        begun, short = newest(self.since, PhaseBegun), newest(self.since, ShortNotice)
        if begun is None:
            return None
        return f"{begun.phase}; {short_notice(short)}" if short else begun.phase.value


def judge(files: RunFiles, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    """Return state and reason of a run.

    Args:
        files: The records of the run.
        record: The job of the run in Slurm, if there is one.
        view: The answer of Slurm.
    """
    if settled := _settled(files, record):
        return settled
    if not files.jobs:
        return "FAILED", "created but never started; run: shardline resume"
    last = files.jobs[-1]
    if files.job_name and (record or view.error):
        return _judge_by_slurm(files, record, view)
    if isinstance(last, Intent):
        # After an intent, the job records its id within seconds, unless the submission was interrupted.
        if time.time() - last.time < _START_S:
            return "PENDING", "being started"
        return "FAILED", "submission was interrupted; run: shardline resume"
    if last.executor == "local" and is_alive(last):
        phase = files.phase()
        return ("RUNNING", phase) if phase else ("PENDING", "starting")
    if stop := _stop(files):
        return stop
    if last.executor == "slurm":
        return "FAILED", "Slurm has no record of the job; run: shardline resume"
    if not last.is_here:
        return "RUNNING", f"started on {last.host}; check the status there"
    why = "process exited without reporting an error (killed or node failure); run: shardline resume"
    return "FAILED", why


def _settled(files: RunFiles, record: JobRecord | None) -> tuple[State, str] | None:
    """Return state and reason if they do not depend on a process or the queue, else None."""
    if isinstance(files.result, Finished):
        early = files.result.ended_early
        return "COMPLETED", f"ended early: {early}" if early else ""
    if of_kind(files.since, Cancelled):
        going = record is not None and record.phase == "active"
        return ("RUNNING", "being cancelled") if going else ("CANCELLED", "cancelled by you")
    return ("FAILED", files.result.reason) if files.result else None


def _stop(files: RunFiles) -> tuple[State, str] | None:
    """Return state and reason of a run that saved and stopped, or None if it did not."""
    stop = newest(files.since, Preempted)
    return ("PREEMPTED", f"stopped by {stop.reason} after step {stop.step}") if stop else None


def _judge_by_slurm(files: RunFiles, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    if record is None:
        return ("RUNNING" if files.phase() else "PENDING"), f"Slurm does not answer: {view.error}"
    if record.phase == "waiting":
        current = attempts_in(files.since)
        ended = [attempt for attempt in files.attempts if attempt.number in current]
        before = f"attempt {ended[-1].number} {ended[-1].ended or 'was killed'}; " if ended else ""
        return "PENDING", before + why_waiting(record)
    if record.phase == "active":
        return "RUNNING", files.phase() or record.state.lower()
    if record.state == "CANCELLED":
        return "CANCELLED", "cancelled in Slurm"
    return _stop(files) or ("FAILED", f"{why_ended(record.state)}; run: shardline resume")


def judge_unstarted(trial: Unstarted, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    """Return state and reason of a trial that has not started or waits at a rung.

    Args:
        trial: The trial.
        record: The element of the job array in Slurm, if there is one.
        view: The answer of Slurm.
    """
    if trial.paused_at is not None:
        return _judge_paused(trial, record)
    if trial.cancelled:
        return "CANCELLED", "cancelled before it started"
    if trial.handed_over is None:
        return "FAILED", "never submitted; submit the sweep again"
    if trial.job is None and time.time() - trial.handed_over < _START_S:
        return "PENDING", "being submitted"
    if trial.job is None:
        return "FAILED", "submission was interrupted; submit the sweep again"
    return _judge_element(trial, trial.key, record, view) if trial.key else _judge_in_turn(trial.job)


def _judge_paused(trial: Unstarted, record: JobRecord | None) -> tuple[State, str]:
    on_this_machine = trial.key is None and trial.job is not None
    in_queue = record is not None and record.phase != "ended"
    alive = trial.job is not None and is_alive(trial.job) if on_this_machine else in_queue
    if alive and not trial.cancelled:
        return "PENDING", f"at step {trial.paused_at}, waiting for the other settings"
    return "PREEMPTED", f"stopped by sweep.halving after step {trial.paused_at}"


def _judge_in_turn(job: Job) -> tuple[State, str]:
    if not job.is_here:
        return "PENDING", f"started on {job.host}; check the status there"
    if is_alive(job):
        return "PENDING", "waiting for earlier trials"
    return "FAILED", "never started; submit the sweep again"


def _judge_element(
    trial: Unstarted, key: str, record: JobRecord | None, view: QueueView
) -> tuple[State, str]:
    if record and record.phase != "ended":
        return "PENDING", why_waiting(record) if record.phase == "waiting" else "starting"
    if record and record.state == "CANCELLED":
        return "CANCELLED", "cancelled in Slurm before it started"
    if record:
        return "FAILED", f"did not start: {why_ended(record.state)}"
    if view.error:
        return "PENDING", f"Slurm does not answer: {view.error}"
    index = key.rpartition("[")[2].rstrip("]")
    job_id = trial.job.job_id if trial.job else None
    output = trial.root.parent / "submitit" / f"{job_id}_{index}_batch.out"
    if output.exists():
        return "FAILED", f"ended without a recorded reason; see {output}"
    # A pending element disappears from Slurm only if it was cancelled.
    return "CANCELLED", "cancelled in Slurm before it started"

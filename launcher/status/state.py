"""What state a run is in, from what its directory and the queue say. Pure, but for a look at a process."""

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
"""States of a run that a job waits for or works on: it needs no resume, and can be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstarted:
    """A trial of a sweep that has not begun since it was last handed over."""

    name: str
    root: Path
    key: str | None
    """Of its element in a job array; None on this machine, and if it was never handed over."""
    job: Job | None
    """The job that will start it, from the sweep's jobs.jsonl."""
    handed_over: float | None
    """When, in seconds since the epoch."""
    cancelled: bool
    paused_at: int | None = None
    """The step at which it waits for the other trials of a rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What one run directory says."""

    run: RunDir
    events: Sequence[RunEvent]
    jobs: Sequence[Intent | Job]
    result: RunResult | None
    planned_steps: int | None
    attempts: Sequence[Attempt]

    @property
    def job_name(self) -> str | None:
        """Under which the run was last submitted to Slurm."""
        return self.jobs[-1].name if self.jobs else None

    @property
    def since(self) -> Sequence[RunEvent]:
        """The journal since the newest submission."""
        return since_last_submit(self.events)

    @property
    def silent(self) -> bool:
        """Whether an attempt ended without recording a reason."""
        return any(attempt.ended is None for attempt in self.attempts)

    def phase(self) -> str | None:
        """The last phase in the journal, with a warning if a stop would leave too little time to save."""
        begun, short = newest(self.since, PhaseBegun), newest(self.since, ShortNotice)
        if begun is None:
            return None
        return f"{begun.phase}; {short_notice(short)}" if short else begun.phase.value


def judge(files: RunFiles, record: JobRecord | None, view: QueueView) -> tuple[State, str]:
    """State and reason of a run, given its job as Slurm knows it."""
    if settled := _settled(files, record):
        return settled
    if not files.jobs:
        return "FAILED", "created but never started; run: shardline resume"
    last = files.jobs[-1]
    if files.job_name and (record or view.error):
        return _judge_by_slurm(files, record, view)
    if isinstance(last, Intent):
        # An intent: the job that it announces writes its id within seconds, or there is none.
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
    """What no process and no queue can change."""
    if isinstance(files.result, Finished):
        early = files.result.ended_early
        return "COMPLETED", f"ended early: {early}" if early else ""
    if of_kind(files.since, Cancelled):
        going = record is not None and record.phase == "active"
        return ("RUNNING", "being cancelled") if going else ("CANCELLED", "cancelled by you")
    return ("FAILED", files.result.reason) if files.result else None


def _stop(files: RunFiles) -> tuple[State, str] | None:
    """An agreed stop that nothing followed."""
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
    """State and reason of a trial that has not begun, or waits at a rung."""
    if trial.paused_at is not None:
        return _judge_paused(trial, record)
    if trial.cancelled:
        return "CANCELLED", "cancelled before it started"
    if trial.handed_over is None:
        return "FAILED", "it was never submitted; submit the sweep again"
    if trial.job is None and time.time() - trial.handed_over < _START_S:
        return "PENDING", "being submitted"
    if trial.job is None:
        return "FAILED", "its submission was cut short; submit the sweep again"
    return _judge_element(trial, trial.key, record, view) if trial.key else _judge_in_turn(trial.job)


def _judge_paused(trial: Unstarted, record: JobRecord | None) -> tuple[State, str]:
    on_this_machine = trial.key is None and trial.job is not None
    in_queue = record is not None and record.phase != "ended"
    alive = trial.job is not None and is_alive(trial.job) if on_this_machine else in_queue
    if alive and not trial.cancelled:
        return "PENDING", f"at step {trial.paused_at}, until the other settings are there too"
    return "PREEMPTED", f"stopped by sweep.halving after step {trial.paused_at}"


def _judge_in_turn(job: Job) -> tuple[State, str]:
    if not job.is_here:
        return "PENDING", f"started on {job.host}; ask there"
    if is_alive(job):
        return "PENDING", "the trials before it come first"
    return "FAILED", "it was never started; submit the sweep again"


def _judge_element(
    trial: Unstarted, key: str, record: JobRecord | None, view: QueueView
) -> tuple[State, str]:
    if record and record.phase != "ended":
        return "PENDING", why_waiting(record) if record.phase == "waiting" else "starting"
    if record and record.state == "CANCELLED":
        return "CANCELLED", "cancelled in Slurm before it began"
    if record:
        return "FAILED", f"it did not start: {why_ended(record.state)}"
    if view.error:
        return "PENDING", f"Slurm does not answer: {view.error}"
    index = key.rpartition("[")[2].rstrip("]")
    job_id = trial.job.job_id if trial.job else None
    output = trial.root.parent / "submitit" / f"{job_id}_{index}_batch.out"
    if output.exists():
        return "FAILED", f"it ended before it could say why: {output}"
    # Slurm forgets an element that was cancelled while it waited, and no other that waits.
    return "CANCELLED", "cancelled in Slurm before it began"

"""The training loop: steps, with stops, saves and validations between them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from train.checkpoint.progress import Resumed
from train.config import TrainingConfig
from train.dist import Group
from train.evaluate.validation import Validation
from train.failures import UserError
from train.journal.events import BadStep, Preempted, RolledBack, Trained, TrainingResumed
from train.journal.parts import ConvertedFrom
from train.journal.phases import Phase
from train.journal.reading import of_kind, read_journal
from train.measure.phases import PhaseTimer
from train.measure.tracking import Tracker
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest
from train.observer import StepDone, StepObserver
from train.rank.checkpointing import Checkpointing
from train.rank.finish import RunEnd
from train.rank.gc_policy import aligned_collection
from train.rank.global_batch import BatchTrainer
from train.rank.loss_guard import MAX_ROLLBACKS, LossGuard, StepVerdict, Window, batch_number
from train.rank.meter import Meter
from train.rundir import STOPPED_AT_RUNG, STOPPED_BY_USER, RunDir


class Outcome(StrEnum):
    """How an attempt ended on a rank."""

    COMPLETED = "COMPLETED"
    PREEMPTED = "PREEMPTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopParts:
    """The objects that the loop uses."""

    config: TrainingConfig
    run_dir: RunDir
    attempt: int
    group: Group
    trainer: BatchTrainer
    observers: Sequence[StepObserver]
    """The observers in nesting order, outermost first."""
    meter: Meter
    checkpoints: Checkpointing
    validation: Validation
    phases: PhaseTimer
    stop: StopRequest
    heart: Heartbeat
    tracker: Tracker | None
    """Set on rank 0 only."""


def run(parts: LoopParts, end: RunEnd) -> Outcome:
    """Train from the newest checkpoint to the end of the run, or until all ranks agree to stop."""
    parts.phases.begin(Phase.RESTORE)
    resumed = parts.checkpoints.resume()
    _note_resume(parts, resumed)
    if parts.config.eval.base and resumed.progress.step == 0:
        end.assessor.once("base")
    parts.phases.begin(Phase.TRAIN)
    loop = TrainingLoop(parts, resumed)
    if not loop.run():
        return Outcome.PREEMPTED
    end.finish(loop.progress)
    return Outcome.COMPLETED


def _note_resume(parts: LoopParts, resumed: Resumed) -> None:
    step = resumed.progress.step
    if parts.group.env.is_main and step:
        before = resumed.converted_from
        converted_from = ConvertedFrom(**asdict(before)) if before else None
        parts.run_dir.log(TrainingResumed(attempt=parts.attempt, step=step, converted_from=converted_from))


class TrainingLoop:
    """Runs the steps of one attempt."""

    def __init__(self, parts: LoopParts, resumed: Resumed) -> None:
        """Continue from `resumed`; batches to skip and the step to pause at come from rank 0."""
        self._parts = parts
        self._config = parts.config
        self.progress = resumed.progress
        """The current progress of the run."""
        self._total_steps = parts.trainer.sampler.total_steps
        self._guard = LossGuard(self._config.train)
        self._skipped: list[Window] = parts.group.from_main(_skipped_windows(parts))
        self._pause_at: int | None = parts.group.from_main(_pause_step(parts))
        self._clean = True
        self._loss_before = resumed.progress.loss if resumed.converted_from is not None else None
        parts.checkpoints.restart_clock()

    def run(self) -> bool:
        """Train; returns True at the end of the run, False after an agreed stop."""
        with aligned_collection():
            finished = self._run_steps()
        for observer in reversed(self._parts.observers):
            observer.close()
        if finished:
            self._note_end()
        return finished

    def _run_steps(self) -> bool:
        while self.progress.step < self._total_steps and not self._is_stale():
            if self._stops_at_boundary():
                return False
            verdict = self._judge(self._step())
            if verdict.roll_back:
                self._roll_back(verdict)
                continue
            self._validate_if_due()
        return True

    def _stops_at_boundary(self) -> bool:
        """Agree between two steps on a stop and a save; returns whether the attempt ends here."""
        parts = self._parts
        parts.heart.number.value = self.progress.step
        parts.heart.tick("agreement")
        # Do not save between bad steps: a rollback must reach a state from before them.
        save_due = parts.group.env.is_main and self._clean and parts.checkpoints.due(self.progress)
        stop, save = parts.group.any(bool(parts.stop), save_due)
        if stop:
            requested = parts.run_dir.stop_request.exists()
            reasons = [reason for reason in parts.group.gather(parts.stop.reason) if reason]
            self._stop(STOPPED_BY_USER if requested else reasons[0])
        elif save:
            parts.checkpoints.save(self.progress)
        if not stop and self._pause_at is not None and self.progress.step >= self._pause_at:
            self._stop(STOPPED_AT_RUNG)
            return True
        return stop

    def _step(self) -> StepDone:
        """Train one global batch and notify the observers before and after it."""
        parts = self._parts
        step = parts.heart.number.value = self.progress.step + 1
        for observer in parts.observers:
            observer.before(step)
        done = parts.trainer.train(step, batch_number(step, self._skipped))
        self.progress.count_step(samples=len(done.sample_ids), tokens=done.size.tokens)
        for observer in reversed(parts.observers):
            observer.after(done)
        return done

    def _judge(self, done: StepDone) -> StepVerdict:
        """Write metrics if they are due, and return the verdict on the step."""
        reporting = _due(done.step, self._config.train.log_every_steps) or done.step == self._total_steps
        loss = self._parts.meter.report(self.progress) if reporting else None
        verdict = self._guard.judge(applied=done.applied, loss=loss)
        self._clean = verdict.kind == "fine"
        if verdict.kind != "fine" and self._parts.group.env.is_main:
            self._parts.run_dir.log(
                BadStep(attempt=self._parts.attempt, step=done.step, kind=verdict.kind, reason=verdict.reason)
            )
        if loss is not None and math.isfinite(loss):
            self._check_first_loss(loss)
            self.progress.loss = loss
        return verdict

    def _check_first_loss(self, loss: float) -> None:
        """Check that the loss did not jump after a checkpoint was converted to another topology."""
        before, self._loss_before = self._loss_before, None
        if before is not None and loss > 1.5 * before + 0.5:
            raise RuntimeError(
                f"the loss rose from {before:.3f} to {loss:.3f} when the checkpoint was converted to"
                " another number of ranks, ZeRO stage or precision; resume with the topology it was saved in"
            )

    def _validate_if_due(self) -> None:
        progress, parts = self.progress, self._parts
        last = progress.step == self._total_steps
        if not (
            last or progress.step == self._pause_at or _due(progress.step, self._config.eval.every_steps)
        ):
            return
        with parts.meter.pause("evaluate"):
            improved = parts.validation.validate(progress)
        # Save after the last validation too, so that the newest checkpoint records the end of the run.
        if improved or last or self._is_stale():
            parts.checkpoints.save(progress)

    def _is_stale(self) -> bool:
        return self.progress.is_stale(self._config.eval.patience)

    def _roll_back(self, verdict: StepVerdict) -> None:
        """Restore the last good checkpoint and skip the batches that led to the bad steps."""
        parts, bad_until = self._parts, self.progress.step
        last = batch_number(bad_until, self._skipped)
        window = (last - verdict.bad_steps + 1, last)
        parts.checkpoints.join()
        self.progress = parts.checkpoints.resume().progress
        if self.progress.step == 0 or len(self._skipped) >= MAX_ROLLBACKS:
            why = (
                "and there is no earlier checkpoint"
                if self.progress.step == 0
                else f"after {MAX_ROLLBACKS} rollbacks"
            )
            raise UserError(
                f"the run diverged at step {bad_until}: {verdict.reason}, {why}; lower optim.lr, warm up"
                " longer, or use train.precision=bf16 or fp32"
            )
        self._skipped.append(window)
        if parts.group.env.is_main:
            parts.run_dir.log(
                RolledBack(
                    attempt=parts.attempt,
                    step=bad_until,
                    to_step=self.progress.step,
                    skipped=window,
                    reason=verdict.reason,
                )
            )
        self._guard = LossGuard(self._config.train)
        parts.meter.forget()

    def _stop(self, reason: str) -> None:
        """Save if needed and journal the stop; all ranks are at the same step."""
        parts = self._parts
        self._note_end()
        parts.phases.begin(Phase.SAVE)
        parts.checkpoints.save_if_new(self.progress)
        parts.checkpoints.join()
        if parts.group.env.is_main:
            parts.run_dir.log(Preempted(attempt=parts.attempt, step=self.progress.step, reason=reason))
            if parts.tracker:
                parts.tracker.close({"stopped_at_step": self.progress.step})

    def _note_end(self) -> None:
        """Journal the times since the last row of metrics."""
        if self._parts.group.env.is_main:
            self._parts.run_dir.log(
                Trained(
                    attempt=self._parts.attempt,
                    step=self.progress.step,
                    **self._parts.meter.unreported(),
                )
            )


def _pause_step(parts: LoopParts) -> int | None:
    """Return the step at which a sweep pauses this run, if any; None on ranks other than 0."""
    pause = parts.run_dir.pause
    return int(pause.read_text()) if parts.group.env.is_main and pause.exists() else None


def _skipped_windows(parts: LoopParts) -> list[Window]:
    """Read from the journal which batches earlier attempts skipped; empty on ranks other than 0."""
    if not parts.group.env.is_main:
        return []
    return [event.skipped for event in of_kind(read_journal(parts.run_dir.events), RolledBack)]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0

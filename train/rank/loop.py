"""The training loop: micro-batches, one step, and at its boundary everything else."""

import math
from dataclasses import asdict
from enum import StrEnum

import torch

from train.checkpoint.progress import Progress, Resumed
from train.checkpoint.schedule import SaveSchedule
from train.context import RankContext
from train.data.sampler import share_out
from train.evaluate.assess import assess_once
from train.evaluate.validation import validate
from train.failures import UserError
from train.journal.events import BadStep, Preempted, RolledBack, Trained, TrainingResumed
from train.journal.parts import ConvertedFrom
from train.journal.phases import Phase
from train.journal.reading import of_kind, read_journal
from train.measure.profiling import StepProfiler
from train.metrics import TraceRow, log_trace
from train.model.optim import learning_rate
from train.rank.finish import finish
from train.rank.gc_policy import aligned_collection, collect_if_due
from train.rank.loss_guard import MAX_ROLLBACKS, Guard, Judgement, Window, batch_number
from train.rank.meter import Meter, StepSize
from train.rank.stop_notice import Notice
from train.rundir import STOPPED_AT_RUNG, STOPPED_BY_USER


class Outcome(StrEnum):
    """How a rank's part of an attempt ended."""

    COMPLETED = "COMPLETED"
    PREEMPTED = "PREEMPTED"


def run(context: RankContext) -> Outcome:
    """Train from wherever the run stands to its end, or to an agreed stop."""
    context.announce(Phase.RESTORE)
    resumed = context.restorer.resume(context.engine)
    progress = resumed.progress
    _note_resume(context, resumed)
    if context.job.config.eval.base and progress.step == 0:
        assess_once(context, "base")
    context.announce(Phase.TRAIN)
    if not _Training(context, progress, resumed.converted_from is not None).run():
        return Outcome.PREEMPTED
    finish(context, progress)
    return Outcome.COMPLETED


def _note_resume(context: RankContext, resumed: Resumed) -> None:
    step = resumed.progress.step
    if context.is_main and step:
        before = resumed.converted_from
        converted_from = ConvertedFrom(**asdict(before)) if before else None
        context.job.run_dir.log(
            TrainingResumed(attempt=context.attempt, step=step, converted_from=converted_from)
        )


class _Training:
    """The steps of one attempt."""

    def __init__(self, context: RankContext, progress: Progress, check_first_loss: bool) -> None:
        self._context = context
        self._progress = progress
        self._config = context.job.config
        self._meter = Meter(context)
        self._guard = Guard(self._config.train)
        self._skipped: list[Window] = context.group.from_main(_skipped_windows(context))
        self._schedule = SaveSchedule(self._config.checkpoint, context.job.run_dir.save_request)
        self._notice = Notice(context)
        self._profiler = StepProfiler(
            self._config.train, context.job.run_dir, context.group.env, context.attempt
        )
        self._saved_step = progress.step
        self._clean = True
        self._loss_before = progress.loss if check_first_loss else None
        self._pause_at: int | None = context.group.from_main(_pause_step(context))

    def run(self) -> bool:
        """Whether the end was reached; a stop was agreed on otherwise."""
        with aligned_collection():
            finished = self._steps()
        self._profiler.close()
        if finished:
            self._note_end()
        return finished

    def _steps(self) -> bool:
        progress, total_steps = self._progress, self._context.sampler.total_steps
        while progress.step < total_steps and not progress.is_stale(self._config.eval.patience):
            if self._at_boundary():
                return False
            if self._pause_at is not None and progress.step >= self._pause_at:
                self._stop(STOPPED_AT_RUNG)
                return False
            judgement = self._step()
            if judgement.roll_back:
                self._roll_back(judgement)
                continue
            last = progress.step == total_steps
            if _due(progress.step, self._config.eval.every_steps) or last or progress.step == self._pause_at:
                with self._meter.pause("evaluate"):
                    improved = validate(self._context, progress)
                # The newest checkpoint knows of the end that it led to.
                if improved or last or progress.is_stale(self._config.eval.patience):
                    self._save()
        return True

    def _at_boundary(self) -> bool:
        """Between two steps: agree on a stop and on a save. Whether it is a stop."""
        context, step = self._context, self._progress.step
        context.heart.tick("agreement")
        context.faults.step = step
        # In the middle of bad steps nothing is saved that a return could not go behind.
        new = step != self._saved_step and self._clean
        stop, save = context.group.any(
            bool(context.stop), context.is_main and new and self._schedule.due(step)
        )
        if stop:
            asked = context.job.run_dir.stop_request.exists()
            reasons = [reason for reason in context.group.gather(context.stop.reason) if reason]
            self._stop(STOPPED_BY_USER if asked else reasons[0])
        elif save:
            self._save()
        return stop

    def _step(self) -> Judgement:
        """One global batch: the same documents, order, rate and dropout whatever the ranks or the attempt."""
        context, progress = self._context, self._progress
        step = context.heart.step = context.faults.step = progress.step + 1
        self._profiler.before(step)
        self._meter.start_step()
        _seed_dropout(context, step)
        chosen = context.sampler.batch(step, batch_number(step, self._skipped))
        ids = context.sequences.documents(chosen)
        tokens = int(context.sequences.tokens[chosen].sum())
        trained = int(context.sequences.trained_tokens[chosen].sum())
        self._accumulate(chosen, trained)
        context.heart.tick("optimizer step")
        self._meter.enter("step")
        context.faults.hit("step")
        applied = context.engine.step(learning_rate(self._config.optim, step, context.sampler.total_steps))
        context.heart.warm = True
        progress.step = step
        progress.samples += len(ids)
        progress.tokens += tokens
        self._meter.end_step(
            StepSize(tokens=tokens, trained=trained, pairs=int(context.sequences.pairs[chosen].sum()))
        )
        self._profiler.after(step)
        context.announcer.step_made()
        if context.compilation:
            context.compilation.step_made(step)
        collect_if_due(step)
        if self._config.train.trace and context.is_main:
            row = TraceRow(attempt=context.attempt, step=step, sample_ids=ids, random=float(torch.rand(())))
            log_trace(context.job.run_dir, row)
        reporting = _due(step, self._config.train.log_every_steps) or step == context.sampler.total_steps
        loss = self._meter.report(progress) if reporting else None
        return self._judge(applied, loss)

    def _accumulate(self, chosen: list[int], trained: int) -> None:
        """Gradients of one global batch, this rank's share."""
        context = self._context
        sequences = context.sequences
        micro_batches = share_out(chosen, sequences.tokens, context.job.plan.batch, context.group.env.rank)
        for number, micro_batch in enumerate(micro_batches, 1):
            context.heart.tick("forward")
            self._meter.enter("data")
            context.faults.hit("data")
            batch = sequences.collate(micro_batch, context.group.env.device)
            self._meter.enter("forward")
            context.faults.hit("forward")
            loss_sum = context.engine.loss_sum(batch)
            context.heart.tick("backward")
            self._meter.enter("backward")
            spoilt = float("nan") if context.faults.hit("backward") else 1.0
            context.engine.backward(loss_sum * spoilt, trained)
            self._meter.add(loss_sum)
            if number < len(micro_batches):
                context.engine.micro_step()

    def _judge(self, applied: bool, loss: float | None) -> Judgement:
        judgement = self._guard.judge(applied=applied, loss=loss)
        self._clean = judgement.kind == "fine"
        if judgement.kind != "fine" and self._context.is_main:
            self._context.job.run_dir.log(
                BadStep(
                    attempt=self._context.attempt,
                    step=self._progress.step,
                    kind=judgement.kind,
                    reason=judgement.reason,
                )
            )
        if loss is not None and math.isfinite(loss):
            self._check_first_loss(loss)
            self._progress.loss = loss
        return judgement

    def _check_first_loss(self, loss: float) -> None:
        """States that were shared out anew must go on where they stopped."""
        before, self._loss_before = self._loss_before, None
        if before is not None and loss > 1.5 * before + 0.5:
            raise RuntimeError(
                f"after sharing the checkpoint out anew the loss is {loss:.3f}, it was {before:.3f} before"
            )

    def _roll_back(self, judgement: Judgement) -> None:
        """Back to the last good checkpoint, and past the batches that went bad."""
        context, bad_until = self._context, self._progress.step
        last = batch_number(bad_until, self._skipped)
        window = (last - judgement.bad_steps + 1, last)
        context.saver.join()
        resumed = context.restorer.resume(context.engine).progress
        if resumed.step == 0 or len(self._skipped) >= MAX_ROLLBACKS:
            why = (
                "no checkpoint was made before"
                if resumed.step == 0
                else f"after {MAX_ROLLBACKS} such returns"
            )
            raise UserError(
                f"the run diverged at step {bad_until}: {judgement.reason}, {why}; lower optim.lr, warm up"
                " longer, or use train.precision=bf16 or fp32"
            )
        self._skipped.append(window)
        if context.is_main:
            context.job.run_dir.log(
                RolledBack(
                    attempt=context.attempt,
                    step=bad_until,
                    to_step=resumed.step,
                    skipped=window,
                    reason=judgement.reason,
                )
            )
        for name, value in asdict(resumed).items():
            setattr(self._progress, name, value)
        self._saved_step = resumed.step
        self._guard = Guard(self._config.train)
        self._meter.forget()

    def _save(self) -> None:
        self._context.heart.beat("save")
        with self._meter.pause("save"):
            stall_s = self._context.saver.save(self._context.engine, self._progress)
        self._schedule.saved(stall_s)
        self._saved_step = self._progress.step
        self._notice.check(self._meter.last_step_s, self._context.saver.longest_save_s)

    def _stop(self, reason: str) -> None:
        """All ranks stand at the same boundary: save there, once."""
        context = self._context
        self._note_end()
        context.announce(Phase.SAVE)
        if self._progress.step != self._saved_step:
            self._save()
        context.saver.join()
        if context.is_main:
            context.job.run_dir.log(
                Preempted(attempt=context.attempt, step=self._progress.step, reason=reason)
            )
            if context.tracker:
                context.tracker.close({"stopped_at_step": self._progress.step})

    def _note_end(self) -> None:
        """Journal the times since the last row of metrics, which no other row will hold."""
        if self._context.is_main:
            self._context.job.run_dir.log(
                Trained(attempt=self._context.attempt, step=self._progress.step, **self._meter.unreported())
            )


def _pause_step(context: RankContext) -> int | None:
    """Where a sweep wants this run to stop and wait, if it does; rank 0 knows."""
    pause = context.job.run_dir.pause
    return int(pause.read_text()) if context.is_main and pause.exists() else None


def _skipped_windows(context: RankContext) -> list[Window]:
    """Batches that earlier attempts left out, from the journal."""
    if not context.is_main:
        return []
    return [event.skipped for event in of_kind(read_journal(context.job.run_dir.events), RolledBack)]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _seed_dropout(context: RankContext, step: int) -> None:
    """Random numbers are a function of seed, step and rank, so there is no state to lose."""
    seed = (context.job.config.seed * 1_000_003 + step) * 65_537 + context.group.env.rank
    torch.manual_seed(seed % 2**63)

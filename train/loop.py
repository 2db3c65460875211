"""The training loop: micro-batches, one step, and at its boundary everything else."""

import math
import time
from dataclasses import asdict
from enum import StrEnum

import torch

from train.checkpoint.collective import Progress
from train.context import RankContext
from train.data.sampler import share_out
from train.evaluate.assess import assess_once
from train.evaluate.scores import evaluate
from train.failures import UserError
from train.finish import finish
from train.optim import learning_rate
from train.rundir import STOPPED_BY_USER, append_line


class Outcome(StrEnum):
    """How a rank's part of an attempt ended."""

    COMPLETED = "COMPLETED"
    PREEMPTED = "PREEMPTED"


def run(context: RankContext) -> Outcome:
    """Train from wherever the run stands to its end, or to an agreed stop."""
    progress = context.checkpoints.resume(context.engine)
    total_steps = context.sampler.total_steps
    if context.is_main and progress.step:
        context.job.run_dir.log_event("resumed", attempt=context.attempt, step=progress.step)
    if context.job.config.eval.base and progress.step == 0:
        assess_once(context, "base")
    context.announce("train")
    meter = _Meter(context)
    saved_step = progress.step
    notice = _Notice(context)
    while progress.step < total_steps:
        context.heart.tick("agreement")
        if context.group.any(bool(context.stop)):
            return _stop(context, progress, saved_step)
        _train_step(context, progress, total_steps, meter)
        last = progress.step == total_steps
        improved = (_due(progress.step, context.job.config.eval.every_steps) or last) and _validate(
            context, progress
        )
        if improved or last or _due(progress.step, context.job.config.checkpoint.every_steps):
            notice.check(meter.last_step_s, _save(context, progress))
            saved_step = progress.step
    finish(context, progress)
    return Outcome.COMPLETED


def _train_step(context: RankContext, progress: Progress, total_steps: int, meter: "_Meter") -> None:
    """One global batch: the same rows, order, rate and dropout whatever the ranks or the attempt."""
    meter.start_step()
    step = context.heart.step = progress.step + 1
    rows = context.sets["train"]
    ids = context.sampler.batch(step)
    trained = int(rows.trained_tokens[ids].sum())
    _seed_dropout(context, step)
    micro_batches = share_out(ids, rows.tokens, context.job.plan.batch, context.group.env.rank)
    for number, micro_batch in enumerate(micro_batches, 1):
        context.heart.tick("forward")
        loss_sum = context.engine.loss_sum(rows.collate(micro_batch, context.group.env.device))
        context.heart.tick("backward")
        context.engine.backward(loss_sum, trained)
        meter.add(loss_sum)
        if number < len(micro_batches):
            context.engine.micro_step()
    lr = learning_rate(context.job.config.optim, step, total_steps)
    context.heart.tick("optimizer step")
    context.engine.step(lr)
    context.heart.warm = True
    progress.step = step
    progress.samples += len(ids)
    progress.tokens += int(rows.tokens[ids].sum())
    meter.end_step(tokens=int(rows.tokens[ids].sum()), trained=trained)
    if context.job.config.train.trace and context.is_main:
        append_line(context.job.run_dir.trace, {"attempt": context.attempt, "step": step, "sample_ids": ids})
    if _due(step, context.job.config.train.log_every_steps) or step == total_steps:
        meter.report(progress)


def _validate(context: RankContext, progress: Progress) -> bool:
    """Score the validation set; whether it is the best so far."""
    if "validation" not in context.sets:
        return False
    context.heart.beat("validation")
    scores = evaluate(
        context.engine,
        context.sets["validation"],
        context.group,
        context.job.config.eval.batch_size,
        causal=context.causal,
    )
    improved = math.isfinite(scores.loss) and (progress.best_loss is None or scores.loss < progress.best_loss)
    if improved:
        progress.best_loss, progress.best_step = scores.loss, progress.step
    if context.is_main:
        values = {key: value for key, value in asdict(scores).items() if value is not None}
        context.job.run_dir.log_event(
            "validation", attempt=context.attempt, step=progress.step, best=improved, **values
        )
        if context.tracker:
            context.tracker.log_values("validation", values, progress.step)
    return improved


def _save(context: RankContext, progress: Progress) -> float:
    """Make a checkpoint; returns the seconds that it took."""
    context.heart.beat("save")
    started = time.perf_counter()
    context.checkpoints.save(context.engine, progress)
    return time.perf_counter() - started


def _stop(context: RankContext, progress: Progress, saved_step: int) -> Outcome:
    """All ranks stand at the same boundary: save there, once."""
    asked = context.job.run_dir.stop_request.exists()
    reasons = [reason for reason in context.group.gather(context.stop.reason) if reason]
    if progress.step != saved_step:
        _save(context, progress)
    if context.is_main:
        context.job.run_dir.log_event(
            "preempted",
            attempt=context.attempt,
            step=progress.step,
            reason=STOPPED_BY_USER if asked else reasons[0],
        )
        if context.tracker:
            context.tracker.close({"stopped_at_step": progress.step})
    return Outcome.PREEMPTED


class _Notice:
    """Whether the time between being asked to stop and being killed is enough, by what was measured."""

    def __init__(self, context: RankContext) -> None:
        self._context = context
        self._needed_s = 0.0

    def check(self, step_s: float, save_s: float) -> None:
        """Journal it once, and again when it gets worse by half."""
        notice_s = self._context.job.plan.notice_s
        needed_s = step_s + save_s
        if notice_s is None or needed_s <= max(notice_s, 1.5 * self._needed_s) or not self._context.is_main:
            return
        self._needed_s = needed_s
        self._context.job.run_dir.log_event(
            "short_notice", attempt=self._context.attempt, needed_s=round(needed_s, 1), notice_s=notice_s
        )


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _seed_dropout(context: RankContext, step: int) -> None:
    """Random numbers are a function of seed, step and rank, so there is no state to lose."""
    seed = (context.job.config.seed * 1_000_003 + step) * 65_537 + context.group.env.rank
    torch.manual_seed(seed % 2**63)


class _Meter:
    """Loss and speed between two reports; touches the device only when it reports."""

    def __init__(self, context: RankContext) -> None:
        self._context = context
        self._reset()

    def _reset(self) -> None:
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._context.group.env.device)
        self._tokens = self._trained = 0
        self._busy_s = 0.0

    @property
    def last_step_s(self) -> float:
        """Seconds of the newest step."""
        return self._last_step_s

    def start_step(self) -> None:
        self._step_started = time.perf_counter()

    def add(self, loss_sum: torch.Tensor) -> None:
        self._loss_sum += loss_sum.detach()

    def end_step(self, *, tokens: int, trained: int) -> None:
        self._last_step_s = time.perf_counter() - self._step_started
        self._busy_s += self._last_step_s
        self._tokens += tokens
        self._trained += trained

    def report(self, progress: Progress) -> None:
        context = self._context
        [loss_sum] = context.group.sum([float(self._loss_sum)])
        if not math.isfinite(loss_sum):
            raise UserError(
                f"the loss is {loss_sum} at step {progress.step}: the run diverged; lower optim.lr, warm up"
                " longer, or use train.precision=bf16 or fp32"
            )
        if context.is_main and context.tracker:
            context.tracker.log_step(
                {
                    "step": progress.step,
                    "loss": loss_sum / self._trained,
                    "lr": context.engine.current_lr(),
                    "tokens": progress.tokens,
                    "samples": progress.samples,
                    "grad_norm": context.engine.gradient_norm(),
                    "tokens_per_s": round(self._tokens / self._busy_s, 1),
                    "time": round(time.time(), 3),
                }
            )
        self._reset()

"""Loss and speed between two reports; touches the device only when it reports."""

import math
import time

import torch

from train.checkpoint.progress import Progress
from train.context import RankContext


class Meter:
    """Adds up what the micro-batches of some steps were worth."""

    def __init__(self, context: RankContext) -> None:
        """Start from nothing."""
        self._context = context
        self.last_step_s = 0.0
        """Seconds of the newest step."""
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._context.group.env.device)
        self._tokens = self._trained = 0
        self._busy_s = 0.0

    def start_step(self) -> None:
        """The clock of a step starts."""
        self._step_started = time.perf_counter()

    def add(self, loss_sum: torch.Tensor) -> None:
        """One micro-batch's summed loss."""
        self._loss_sum += loss_sum.detach()

    def end_step(self, *, tokens: int, trained: int) -> None:
        """The clock of a step stops."""
        self.last_step_s = time.perf_counter() - self._step_started
        self._busy_s += self.last_step_s
        self._tokens += tokens
        self._trained += trained

    def report(self, progress: Progress) -> float:
        """Write a line of metrics; returns the mean loss per trained token, the same on all ranks."""
        context = self._context
        [loss_sum] = context.group.sum([float(self._loss_sum)])
        loss = loss_sum / self._trained
        if context.is_main and context.tracker:
            context.tracker.log_step(
                {
                    "step": progress.step,
                    "loss": _finite(loss),
                    "lr": context.engine.current_lr(),
                    "tokens": progress.tokens,
                    "samples": progress.samples,
                    "grad_norm": _finite(context.engine.gradient_norm()),
                    "tokens_per_s": round(self._tokens / self._busy_s, 1),
                    "time": round(time.time(), 3),
                }
            )
        self.forget()
        return loss


def _finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None

"""Loss, speed and memory between two reports; waits for the device only when it reports."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from train.checkpoint.progress import Progress
from train.context import RankContext
from train.flops import SpeedPlan, utilisation
from train.measure.clock import Part, step_clock
from train.measure.memory import memory_gb
from train.metrics import MetricsRow

Pause = Literal["save", "evaluate"]
"""What the training waits for between two steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSize:
    """What global batches held, over all ranks."""

    tokens: int = 0
    """Without padding."""
    trained: int = 0
    pairs: int = 0
    """Sum over documents of the square of their length, for the FLOPs of attention."""

    def __add__(self, other: "StepSize") -> "StepSize":
        return StepSize(
            tokens=self.tokens + other.tokens,
            trained=self.trained + other.trained,
            pairs=self.pairs + other.pairs,
        )


class Meter:
    """Adds up what the steps since the last report were worth, and where their time went."""

    def __init__(self, context: RankContext) -> None:
        """Start from nothing."""
        self._context = context
        self._clock = step_clock(context.group.env.device)
        self._step_started = 0.0
        self.last_step_s = 0.0
        """Seconds of the newest step, as the host saw it."""
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self._clock.take()
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._context.group.env.device)
        self._size = StepSize()
        self._pauses: dict[Pause, float] = {}

    def start_step(self) -> None:
        """A step begins, with its data."""
        self._step_started = time.perf_counter()
        self._clock.enter("data")

    def enter(self, part: Part) -> None:
        """The next part of the step begins."""
        self._clock.enter(part)

    def add(self, loss_sum: torch.Tensor) -> None:
        """One micro-batch's summed loss."""
        self._loss_sum += loss_sum.detach()

    def end_step(self, size: StepSize) -> None:
        """A step is done."""
        self._clock.enter(None)
        self.last_step_s = time.perf_counter() - self._step_started
        self._size += size

    @contextmanager
    def pause(self, kind: Pause) -> Iterator[None]:
        """Something between two steps, on the host's clock."""
        started = time.perf_counter()
        yield
        self._pauses[kind] = self._pauses.get(kind, 0.0) + time.perf_counter() - started

    def report(self, progress: Progress) -> float:
        """Write a line of metrics; returns the mean loss per trained token, the same on all ranks."""
        context = self._context
        # Reading the loss waits for the device; nothing else of a step does because of the metrics.
        mine = [float(self._loss_sum), *memory_gb(context.group.env.device)]
        losses, memory, peak_memory = zip(*context.group.gather_numbers(mine), strict=True)
        loss: float = sum(losses) / self._size.trained
        if context.is_main and context.tracker:
            parts = self._clock.take()
            context.tracker.log_step(
                MetricsRow(
                    attempt=context.attempt,
                    step=progress.step,
                    loss=_finite(loss),
                    lr=context.engine.current_lr(),
                    tokens=progress.tokens,
                    samples=progress.samples,
                    grad_norm=_finite(context.engine.gradient_norm()),
                    **speeds(
                        self._size,
                        sum(parts.values()),
                        context.job.plan.speed,
                        ranks=context.group.env.world_size,
                    ),
                    **time_fields(parts, self._pauses),
                    memory_gb=round(max(memory), 3),
                    peak_memory_gb=round(max(peak_memory), 3),
                    time=round(time.time(), 3),
                )
            )
        self.forget()
        return loss

    def unreported(self) -> dict[str, float]:
        """The times since the last report, for the journal at an attempt's end; waits for the device."""
        return time_fields(self._clock.take(), self._pauses)


def speeds(size: StepSize, seconds: float, speed: SpeedPlan | None, *, ranks: int) -> dict[str, Any]:
    """Tokens per second of all ranks, over the time in steps; MFU where the hardware's peak is known."""
    found = {
        "tokens_per_s": round(size.tokens / seconds, 1),
        "trained_tokens_per_s": round(size.trained / seconds, 1),
    }
    if speed is None:
        return found
    mfu = utilisation(speed, tokens=size.tokens, pairs=size.pairs, seconds=seconds, ranks=ranks)
    return {**found, "mfu": float(f"{mfu:.4g}")}


def time_fields(parts: Mapping[Part, float], pauses: Mapping[Pause, float]) -> dict[str, float]:
    """Seconds of rank 0 since the row before, by their names in rows; pauses only if there were any."""
    return {f"time_{name}_s": round(seconds, 6) for name, seconds in [*parts.items(), *pauses.items()]}


def _finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None

"""Loss, speed and memory between two reports; synchronises with the device only for a report."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from train.checkpoint.progress import Progress
from train.dist import Group
from train.engine.engine import Engine
from train.flops import SpeedPlan, utilisation
from train.measure.clock import Part, step_clock
from train.measure.memory import memory_gb
from train.measure.tracking import Tracker
from train.metrics import MetricsRow
from train.observer import StepDone, StepObserver, StepSize

Pause = Literal["save", "evaluate"]
"""The work between two steps that blocks training."""


class Meter(StepObserver):
    """Sums loss, tokens and times of the steps since the last report."""

    def __init__(
        self,
        engine: Engine,
        group: Group,
        tracker: Tracker | None,
        *,
        attempt: int,
        speed: SpeedPlan | None,
    ) -> None:
        """Start with empty sums.

        Args:
            engine: Source of the learning rate and the gradient norm.
            group: All ranks; their losses and memory are combined into one row.
            tracker: Writes the rows; set on rank 0 only.
            attempt: The attempt number in each row.
            speed: Figures for MFU; None if the peak speed of the hardware is unknown.
        """
        self._engine = engine
        self._group = group
        self._tracker = tracker
        self._attempt = attempt
        self._speed = speed
        self._clock = step_clock(group.env.device)
        self._step_started = 0.0
        self.last_step_s = 0.0
        """Duration of the newest step in seconds, on the host's clock."""
        self.forget()

    def forget(self) -> None:
        """Reset all sums."""
        self._clock.take()
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._group.env.device)
        self._size = StepSize()
        self._pauses: dict[Pause, float] = {}

    def before(self, step: int) -> None:
        """Start the clock with the first part of a step, `data`."""
        self._step_started = time.perf_counter()
        self._clock.enter("data")

    def enter(self, part: Part) -> None:
        """Begin the next part of the step."""
        self._clock.enter(part)

    def add(self, loss_sum: torch.Tensor) -> None:
        """Add the summed loss of one micro-batch."""
        self._loss_sum += loss_sum.detach()

    def after(self, done: StepDone) -> None:
        """Stop the clock and add the size of the step."""
        self._clock.enter(None)
        self.last_step_s = time.perf_counter() - self._step_started
        self._size += done.size

    @contextmanager
    def pause(self, kind: Pause) -> Iterator[None]:
        """Measure work between two steps, on the host's clock."""
        started = time.perf_counter()
        yield
        self._pauses[kind] = self._pauses.get(kind, 0.0) + time.perf_counter() - started

    def report(self, progress: Progress) -> float:
        """Write a row of metrics; returns the mean loss per trained token, which is equal on all ranks."""
        # Reading the loss is the only synchronisation with the device that the metrics need.
        mine = [float(self._loss_sum), *memory_gb(self._group.env.device)]
        losses, memory, peak_memory = zip(*self._group.gather_numbers(mine), strict=True)
        loss: float = sum(losses) / self._size.trained
        if self._tracker:
            parts = self._clock.take()
            self._tracker.log_step(
                MetricsRow(
                    attempt=self._attempt,
                    step=progress.step,
                    loss=_finite(loss),
                    lr=self._engine.current_lr(),
                    tokens=progress.tokens,
                    samples=progress.samples,
                    grad_norm=_finite(self._engine.gradient_norm()),
                    **speeds(
                        self._size,
                        sum(parts.values()),
                        self._speed,
                        ranks=self._group.env.world_size,
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
        """Return the times since the last report, for the journal; synchronises with the device."""
        return time_fields(self._clock.take(), self._pauses)


def speeds(size: StepSize, seconds: float, speed: SpeedPlan | None, *, ranks: int) -> dict[str, Any]:
    """Return tokens per second of all ranks over the time in steps, and MFU if `speed` is given.

    Args:
        size: The size of the steps.
        seconds: Time in these steps.
        speed: Figures for MFU; None omits it.
        ranks: Number of ranks.
    """
    found = {
        "tokens_per_s": round(size.tokens / seconds, 1),
        "trained_tokens_per_s": round(size.trained / seconds, 1),
    }
    if speed is None:
        return found
    mfu = utilisation(speed, tokens=size.tokens, pairs=size.pairs, seconds=seconds, ranks=ranks)
    return {**found, "mfu": float(f"{mfu:.4g}")}


def time_fields(parts: Mapping[Part, float], pauses: Mapping[Pause, float]) -> dict[str, float]:
    """Return the seconds of each part and pause, by their names in metrics rows."""
    return {f"time_{name}_s": round(seconds, 6) for name, seconds in [*parts.items(), *pauses.items()]}


def _finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON cannot represent."""
    return value if math.isfinite(value) else None

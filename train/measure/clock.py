"""Clocks for the parts of a step: one for the host, and one for a GPU that never blocks it."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch

Part = Literal["data", "forward", "backward", "step"]
"""The parts of a step: collating the data, forward pass, backward pass, optimizer step."""
PARTS: tuple[Part, ...] = get_args(Part)


class StepClock(Protocol):
    """Sums the seconds of each part of a step."""

    def enter(self, part: Part | None) -> None:
        """Begin a part and end the one before it; None ends the step."""

    def take(self) -> dict[Part, float]:
        """Return the seconds by part since the last call; synchronises with the device."""


class HostClock:
    """Clock for ranks on the CPU, where a call returns when its work is done."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Count nothing until a part is entered."""
        self._now = now
        self._part: Part | None = None
        self._since_s = 0.0
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    def enter(self, part: Part | None) -> None:
        """See `StepClock`."""
        now_s = self._now()
        if self._part is not None:
            self._seconds[self._part] += now_s - self._since_s
        self._part, self._since_s = part, now_s

    def take(self) -> dict[Part, float]:
        """See `StepClock`."""
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds


class DeviceClock:
    """Clock for ranks on a GPU: events in its stream, read once the device has passed them.

    A part lasts from one event to the next, in device time. Work of the host counts only if the device waits
    for it: data that are ready in time cost nothing.
    """

    def __init__(self, new_mark: Callable[[], torch.cuda.Event] | None = None) -> None:
        """Count nothing until a part is entered; `new_mark` makes an event with timing."""
        self._new_mark = new_mark or (lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self._spare: list[torch.cuda.Event] = []
        self._marks: deque[tuple[Part | None, torch.cuda.Event]] = deque()
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    def enter(self, part: Part | None) -> None:
        """See `StepClock`; does not synchronise with the device."""
        mark = self._spare.pop() if self._spare else self._new_mark()
        mark.record()
        self._marks.append((part, mark))
        if part is None:
            self._read_passed()

    def take(self) -> dict[Part, float]:
        """See `StepClock`."""
        if self._marks:
            self._marks[-1][1].synchronize()
        self._read_passed()
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _read_passed(self) -> None:
        """Add the times of all events that the device has passed, without waiting, and reuse the events."""
        while len(self._marks) > 1 and self._marks[1][1].query():  # type: ignore[no-untyped-call]
            part, mark = self._marks.popleft()
            if part is not None:
                self._seconds[part] += mark.elapsed_time(self._marks[0][1]) / 1e3
            self._spare.append(mark)


def step_clock(device: torch.device) -> StepClock:
    """Return the clock for a device."""
    return DeviceClock() if device.type == "cuda" else HostClock()

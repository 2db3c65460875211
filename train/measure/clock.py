"""Where the time of a step goes: a clock for the host, and one for a GPU that never holds it up."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch

Part = Literal["data", "forward", "backward", "step"]
"""Of a global batch: making its tensors, two passes over the model, the optimizer."""
PARTS: tuple[Part, ...] = get_args(Part)


class StepClock(Protocol):
    """Adds up seconds by part of a step."""

    def enter(self, part: Part | None) -> None:
        """A part begins, and the one before it ends; None: nothing of a step is going on."""

    def take(self) -> dict[Part, float]:
        """Seconds by part since the last call; waits for the device."""


class HostClock:
    """For ranks on the CPU, where a call is back when its work is done."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Stand still until a part is entered."""
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
    """For ranks on a GPU: marks in its stream, read when the device has passed them.

    A part lasts from one mark to the next as the device sees it. What the host does meanwhile shows only
    where the device has to wait for it: data that are ready in time cost nothing.
    """

    def __init__(self, new_mark: Callable[[], torch.cuda.Event] | None = None) -> None:
        """Stand still until a part is entered; `new_mark` makes an event that knows the time."""
        self._new_mark = new_mark or (lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self._spare: list[torch.cuda.Event] = []
        self._marks: deque[tuple[Part | None, torch.cuda.Event]] = deque()
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    def enter(self, part: Part | None) -> None:
        """See `StepClock`; asks the device nothing."""
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
        """Add up to the newest mark that the device has passed: never waits, and few marks are kept."""
        while len(self._marks) > 1 and self._marks[1][1].query():  # type: ignore[no-untyped-call]
            part, mark = self._marks.popleft()
            if part is not None:
                self._seconds[part] += mark.elapsed_time(self._marks[0][1]) / 1e3
            self._spare.append(mark)


def step_clock(device: torch.device) -> StepClock:
    """The clock for the device that does the work."""
    return DeviceClock() if device.type == "cuda" else HostClock()

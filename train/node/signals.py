"""Signals set a flag, nothing more; the loop acts on it at a step boundary. Torch-free."""

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def install(self) -> None:
        """Take over the stop signals of this process; one that came earlier and was held back arrives now."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name

    def __bool__(self) -> bool:
        return self.reason is not None


class StopWatch(threading.Thread):
    """Passes requests to stop on from a node agent to its ranks, whenever they come.

    The main thread blocks the signals, and so do the ranks that it starts, until each has its own handler: a
    stop that comes while they start is held back rather than lost, or deadly. This thread takes them.
    """

    tell: Callable[[signal.Signals], None] | None = None
    """Signals all ranks that there are; None while there can be none."""

    _LOOK_EVERY_S = 0.5

    def __init__(self, stop_request: Path, note: Callable[[str], None]) -> None:
        """Watch for signals, and for a file that asks for the same; `note` is told once which it was."""
        super().__init__(daemon=True)
        self.reason: str | None = None
        self._stop_request = stop_request
        self._note = note
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def run(self) -> None:
        """Once there was a request, tell every rank, also those that start later."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        noted = False
        while True:
            if self.reason is None and self._stop_request.exists():
                self.reason = signal.SIGUSR2.name
            if self.reason and not noted:
                self._note(self.reason)
                noted = True
            if self.reason and (tell := self.tell):
                tell(signal.Signals[self.reason])
            time.sleep(self._LOOK_EVERY_S)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies: no orphan keeps a GPU."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")

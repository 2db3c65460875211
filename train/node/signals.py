"""Stop signals: handlers only set a flag, which the loop reads between steps. Torch-free."""

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
    """A request for this process to stop, with the signal that made it."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def install(self) -> None:
        """Handle the stop signals of this process; blocked signals that arrived earlier are delivered now."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name

    def __bool__(self) -> bool:
        return self.reason is not None


class StopWatch(threading.Thread):
    """Forwards stop requests from a node agent to its ranks.

    The main thread blocks the signals, as do the ranks that it starts, until their handlers are installed: a
    stop that arrives during a start is delayed instead of lost or fatal. This thread receives the signals.
    """

    tell: Callable[[signal.Signals], None] | None = None
    """Sends a signal to all ranks; None while no ranks can exist."""

    _LOOK_EVERY_S = 0.5

    def __init__(self, stop_request: Path, note: Callable[[str], None]) -> None:
        """Watch for stop signals and for the file `stop_request`; `note` is called once with the reason."""
        super().__init__(daemon=True)
        self.reason: str | None = None
        self._stop_request = stop_request
        self._note = note
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def run(self) -> None:
        """Forward a request to every rank, including those that start later."""
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
    """Have the kernel kill this process when its parent dies, so that no orphan keeps a GPU.

    Raises:
        OSError: The kernel rejected the request.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")

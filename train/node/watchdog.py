"""Watches the heartbeats of a node's ranks and kills all ranks when one hangs.

Torch-free; runs as a thread of the node agent.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from train.failures import Failure, node_name
from train.node.heartbeat import Beat, read_beats

DUMP_SIGNAL = signal.SIGQUIT
"""Signal on which a rank writes the stacks of all its threads to its log."""
LONG_PHASE_FACTOR = 6
"""Factor on the time-out for a start, a first step, a save or an assessment."""
_LOOK_EVERY_S = 0.25
_DUMP_WITHIN_S = 3.0


class Watchdog(threading.Thread):
    """Checks the heartbeats of one start of the ranks until `stop` is called."""

    def __init__(self, heartbeats: Path, logs: Path, hang_timeout_s: float) -> None:
        """Watch a folder of heartbeats; `logs` is the folder of the ranks' logs."""
        super().__init__(daemon=True)
        self.hang: Failure | None = None
        self._heartbeats = heartbeats
        self._logs = logs
        self._hang_timeout_s = hang_timeout_s
        self._over = threading.Event()

    def run(self) -> None:
        """Kill all ranks of this node once one hangs."""
        while not self._over.wait(_LOOK_EVERY_S):
            beats = read_beats(self._heartbeats)
            if silent := find_silent(beats, time.monotonic(), self._hang_timeout_s):
                self.hang = self._describe(silent)
                self._dump_stacks(beats)
                _kill(beats)
                return

    def stop(self) -> None:
        """Stop watching, after the ranks have ended."""
        self._over.set()
        self.join()

    def _describe(self, silent: Beat) -> Failure:
        silent_s = time.monotonic() - silent.at_s
        stopped = "; it was stopped by a signal" if _is_stopped(silent.pid) else ""
        return Failure(
            failure_class="hang",
            message=f"rank {silent.rank} on {node_name()} sent no heartbeat for {silent_s:.0f} s in"
            f" {silent.phase} of step {silent.step}{stopped}; the stacks of all ranks are in their logs",
            rank=silent.rank,
            host=node_name(),
            # Time of the last heartbeat: of several nodes that report, the earliest has the cause.
            time=time.time() - silent_s,
            detail="",
        )

    def _dump_stacks(self, beats: Sequence[Beat]) -> None:
        """Make every rank dump its stacks and wait until each log has grown; stopped ranks are continued."""
        logs = [self._logs / f"rank_{beat.rank}.log" for beat in beats]
        before = [_size(log) for log in logs]
        for beat in beats:
            _send(beat.pid, DUMP_SIGNAL)
            _send(beat.pid, signal.SIGCONT)
        deadline = time.monotonic() + _DUMP_WITHIN_S
        while time.monotonic() < deadline and any(
            _size(log) <= size for log, size in zip(logs, before, strict=True)
        ):
            time.sleep(0.05)


def find_silent(beats: Sequence[Beat], now_s: float, hang_timeout_s: float) -> Beat | None:
    """Return the hanging rank once any exceeds its time-out: a stopped one, else the longest silent one.

    Ranks wait for each other, so all of them fall silent; the first one blocks the others.
    """
    allowed = {True: hang_timeout_s, False: hang_timeout_s * LONG_PHASE_FACTOR}
    if not any(now_s - beat.at_s > allowed[beat.steady] for beat in beats):
        return None
    return min(beats, key=lambda beat: (not _is_stopped(beat.pid), beat.at_s))


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def _kill(beats: Sequence[Beat]) -> None:
    for beat in beats:
        _send(beat.pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

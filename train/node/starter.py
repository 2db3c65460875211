"""The node agent's side of the process that starts the ranks (`train/node/forkserver.py`). Torch-free."""

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.failures import Failure
from train.node.forkserver import ONE_THREAD

StartMethod = Literal["fork", "spawn"]
_GONE_WITHIN_S = 10.0
_ANSWER_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.02
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Exit:
    """A rank that ended."""

    pid: int
    code: int
    """Its exit code, or the negative number of the signal that ended it."""


class ServerDiedError(Exception):
    """The process that starts the ranks is gone, and with it all ranks."""


class ImportsFailedError(Exception):
    """What ranks need could not be imported."""

    def __init__(self, failure: Failure) -> None:
        """Keep what the server reported."""
        super().__init__(failure.message)
        self.failure = failure


class Starter:
    """Starts ranks through a server of its own, passes signals on to them, and learns how they end.

    Ranks die with the server, and the server with the thread that made this object.
    """

    def __init__(
        self, method: StartMethod, module: str, arguments: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        """Start the server, which begins to import at once.

        Args:
            method: Whether ranks are forked from the server or are interpreters of their own.
            module: Has `preload(*arguments)`, for `fork`, and `main(arguments)`, or runs with `python -m`.
            arguments: For `preload`.
            environ: For the server and all ranks.
        """
        self._ready = False
        self._events: deque[dict[str, Any]] = deque()
        self._unfinished = b""
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._channel, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-u", "-m", "train.node.forkserver"]
            self._server = subprocess.Popen(
                [*words, str(theirs.fileno()), method, module, *arguments],
                env={**environ, **(ONE_THREAD if method == "fork" else {})},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def wait_ready(self, within_s: float) -> float:
        """Wait for the server's imports.

        Returns:
            Seconds that they took; 0 when they were waited for before.

        Raises:
            ImportsFailedError: they failed.
            ServerDiedError: the server was killed meanwhile.
            TimeoutError: they did not end in time.
        """
        if self._ready:
            return 0.0
        event = self._next(within_s)
        if event is None:
            raise TimeoutError(f"the imports that ranks need took longer than {within_s:.0f} s")
        if event["event"] == "failed":
            raise ImportsFailedError(Failure(**event["failure"]))
        self._ready = True
        return float(event["import_s"])

    def is_alive(self) -> bool:
        """Whether the server still runs."""
        return self._server.poll() is None

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        """Start one rank; returns its process id.

        Args:
            arguments: For the module's `main`.
            environ: Added to the server's environment.
            log: Where all that the rank prints is appended.

        Raises:
            ServerDiedError: the server is gone.
            TimeoutError: the server does not answer.
        """
        try:
            self._send({"do": "start", "arguments": arguments, "environ": dict(environ), "log": str(log)})
        except OSError as error:
            raise ServerDiedError(self._how_it_died()) from error
        while True:
            # Another rank may have ended meanwhile.
            event = self._receive(_ANSWER_WITHIN_S)
            if event is None:
                raise TimeoutError(
                    f"the process that starts the ranks is silent for {_ANSWER_WITHIN_S:.0f} s"
                )
            if event["event"] == "started":
                self._pids.add(event["pid"])
                return int(event["pid"])
            self._events.append(event)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every live rank; with SIGKILL also the processes it started. May come from any thread."""
        with contextlib.suppress(OSError):
            self._send({"do": "signal", "number": int(number)})

    def next_exit(self, within_s: float) -> Exit | None:
        """The next rank that ended; None if none did in time.

        Raises:
            ServerDiedError: the server is gone.
        """
        event = self._next(within_s)
        if event is None:
            return None
        self._pids.discard(event["pid"])
        return Exit(event["pid"], event["code"])

    def kill(self) -> None:
        """Kill the server, and with it all ranks; return when they are gone."""
        self._server.kill()
        self._server.wait()
        self._wait_gone()

    def close(self) -> None:
        """End the server, which has no ranks any more."""
        self._channel.close()
        self.kill()

    def _how_it_died(self) -> str:
        """What ended the server, once all its ranks are gone."""
        self._wait_gone()
        code = self._server.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the process that starts the ranks {how}"

    def _wait_gone(self) -> None:
        """The kernel kills ranks when their server dies; nothing is started while they hold a GPU."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while any(_is_live(pid) for pid in self._pids) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        self._pids.clear()

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _next(self, within_s: float) -> dict[str, Any] | None:
        return self._events.popleft() if self._events else self._receive(within_s)

    def _receive(self, within_s: float) -> dict[str, Any] | None:
        """The next message of the server, past those that wait in `_events`."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unfinished:
            left_s = deadline - time.monotonic()
            if left_s < 0:
                return None
            # In short waits: Python runs signal handlers between them.
            if not select.select([self._channel], [], [], min(left_s, _WAIT_S))[0]:
                continue
            try:
                data = self._channel.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise ServerDiedError(self._how_it_died())
            self._unfinished += data
        line, _, self._unfinished = self._unfinished.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _is_live(pid: int) -> bool:
    """Whether a process runs; one that only waits to be waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False

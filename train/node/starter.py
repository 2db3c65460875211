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
    """The end of a rank."""

    pid: int
    code: int
    """The exit code, or the negative number of the signal that ended the rank."""


class ServerDiedError(Exception):
    """The process that starts the ranks died, and all ranks with it."""


class ImportsFailedError(Exception):
    """The modules of a rank could not be imported."""

    def __init__(self, failure: Failure) -> None:
        """Store the failure that the server reported."""
        super().__init__(failure.message)
        self.failure = failure


class Starter:
    """Starts ranks through a server process, forwards signals to them and reports how they end.

    The ranks die with the server, and the server dies with the thread that created this object.
    """

    def __init__(
        self, method: StartMethod, module: str, arguments: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        """Start the server, which begins its imports immediately.

        Args:
            method: Whether ranks are forked from the server or are new interpreters.
            module: Module that has `preload(*arguments)` and `main(arguments)`; `spawn` runs it with
                `python -m`.
            arguments: Arguments of `preload`.
            environ: Environment of the server and all ranks.
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
        """The process id of the server."""
        return self._server.pid

    def wait_ready(self, within_s: float) -> float:
        """Wait for the server's imports.

        Returns:
            Seconds that the imports took; 0 if they were waited for before.

        Raises:
            ImportsFailedError: An import failed.
            ServerDiedError: The server died.
            TimeoutError: The imports did not end in time.
        """
        if self._ready:
            return 0.0
        event = self._next(within_s)
        if event is None:
            raise TimeoutError(f"the imports of the ranks did not finish within {within_s:.0f} s")
        if event["event"] == "failed":
            raise ImportsFailedError(Failure(**event["failure"]))
        self._ready = True
        return float(event["import_s"])

    def is_alive(self) -> bool:
        """Return whether the server is running."""
        return self._server.poll() is None

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        listener: socket.socket | None = None,
    ) -> int:
        """Start one rank; returns its process id.

        Args:
            arguments: Arguments of the module's `main`.
            environ: Variables added to the server's environment.
            log: File to which the rank's output is appended.
            listener: Listening socket that the rank inherits; its number is in `LISTENER_VARIABLE`.

        Raises:
            ServerDiedError: The server died.
            TimeoutError: The server did not answer in time.
        """
        try:
            self._send(
                {
                    "do": "start",
                    "arguments": arguments,
                    "environ": dict(environ),
                    "log": str(log),
                    "inherits": listener is not None,
                },
                [] if listener is None else [listener.fileno()],
            )
        except OSError as error:
            raise ServerDiedError(self._how_it_died()) from error
        while True:
            # Another rank may have ended meanwhile.
            event = self._receive(_ANSWER_WITHIN_S)
            if event is None:
                raise TimeoutError(
                    f"the process that starts the ranks did not answer within {_ANSWER_WITHIN_S:.0f} s"
                )
            if event["event"] == "started":
                self._pids.add(event["pid"])
                return int(event["pid"])
            self._events.append(event)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every live rank, with SIGKILL also its child processes. Thread-safe."""
        with contextlib.suppress(OSError):
            self._send({"do": "signal", "number": int(number)})

    def next_exit(self, within_s: float) -> Exit | None:
        """Wait for a rank to end; returns None if none ended in time.

        Raises:
            ServerDiedError: The server died.
        """
        event = self._next(within_s)
        if event is None:
            return None
        self._pids.discard(event["pid"])
        return Exit(event["pid"], event["code"])

    def kill(self) -> None:
        """Kill the server and with it all ranks; returns once they have ended."""
        self._server.kill()
        self._server.wait()
        self._wait_gone()

    def close(self) -> None:
        """End the server after all ranks have ended."""
        self._channel.close()
        self.kill()

    def _how_it_died(self) -> str:
        """Return how the server ended, after waiting for its ranks to end."""
        self._wait_gone()
        code = self._server.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the process that starts the ranks {how}"

    def _wait_gone(self) -> None:
        """Wait until the kernel has killed the ranks of a dead server, as they may still hold a GPU."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while any(_is_live(pid) for pid in self._pids) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        self._pids.clear()

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            sent = socket.send_fds(self._channel, [line], descriptors) if descriptors else 0
            self._channel.sendall(line[sent:])

    def _next(self, within_s: float) -> dict[str, Any] | None:
        return self._events.popleft() if self._events else self._receive(within_s)

    def _receive(self, within_s: float) -> dict[str, Any] | None:
        """Receive the next message of the server; messages in `_events` are not considered."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unfinished:
            left_s = deadline - time.monotonic()
            if left_s < 0:
                return None
            # Python runs signal handlers only between these short waits.
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
    """Return whether a process is running; zombies are not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False

"""The process that starts the ranks of a node: `python -m train.node.forkserver CHANNEL METHOD MODULE ARGS`.

With `fork` it imports once what every rank needs and forks each rank from itself: a rank then costs hardly
any CPU time to start, and a shared file system is read once per node. With `spawn` it imports nothing, and
each rank is a new interpreter. It has one thread and never uses a GPU: neither threads nor a CUDA context
survive a fork. Torch-free itself; `train/node/starter.py` is the node agent's side of the channel.

Messages are lines of JSON. From the agent: `start` and `signal`. To the agent: `ready` or `failed`, then
`started` and `ended`.
"""

import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from train.failures import RunError, UserError, describe
from train.node.signals import STOP_SIGNALS, die_with_parent

ONE_THREAD = {
    # pyarrow's allocator starts a thread when it is imported, and numpy's OpenBLAS one per further core.
    # Ranks compute with torch, whose threads start with its first computation and follow OMP_NUM_THREADS.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
    # Lets torch count GPUs without initialising CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
"""Environment variables that keep imported libraries from starting threads or CUDA."""
IMPORT_S_VARIABLE = "SHARDLINE_IMPORT_S"
"""Tells a rank how many seconds of imports were made for its start before it was forked."""
_ARG_START = 45
"""Place of arg_start, counted after the name, in /proc/PID/stat; arg_end follows."""


def main() -> None:
    """Import what ranks need, then start ranks until the agent closes the channel."""
    descriptor, method, module, *arguments = sys.argv[1:]
    die_with_parent()
    # Ranks are started with them blocked, and unblock them once each has its own handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with socket.socket(fileno=int(descriptor)) as channel:
        channel.set_inheritable(False)
        server = _Server(channel, method, module)
        server.prepare(arguments)
        server.serve()


class _Server:
    """The ranks that this process has started, and its channel to the agent."""

    def __init__(self, channel: socket.socket, method: str, module: str) -> None:
        self._channel = channel
        self._method = method
        self._module = module
        self._ranks: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe()

    def prepare(self, arguments: Sequence[str]) -> None:
        """With `fork`: import; exit with the reason if that fails or leaves a thread behind."""
        began_s = time.monotonic()
        if self._method == "fork":
            try:
                importlib.import_module(self._module).preload(*arguments)
                _refuse_threads()
            except Exception as error:  # noqa: BLE001 - the agent decides what follows
                if not isinstance(error, RunError):
                    traceback.print_exc()
                failure = describe(error, rank=-1, time=time.time())
                self._send("failed", failure=asdict(failure))
                sys.exit(1)
        self._send("ready", import_s=round(time.monotonic() - began_s, 3))

    def serve(self) -> None:
        """Do what the agent asks for, and report every rank that ends."""
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        unfinished = b""
        while True:
            ready = {key.fd for key, _ in self._selector.select()}
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._channel.fileno() in ready:
                data = self._channel.recv(65536)
                if not data:
                    return
                *lines, unfinished = (unfinished + data).split(b"\n")
                for line in lines:
                    self._follow(json.loads(line))
            self._report_ended()

    def _follow(self, message: dict[str, Any]) -> None:
        if message["do"] == "start":
            self._start(message["arguments"], message["environ"], message["log"])
            return
        for pid in self._ranks:
            # None of them was waited for, so their process ids are still theirs.
            _send_signal(pid, signal.Signals(message["number"]))

    def _report_ended(self) -> None:
        for pid in list(self._ranks):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ranks.remove(pid)
                self._send("ended", pid=pid, code=os.waitstatus_to_exitcode(status))

    def _start(self, arguments: Sequence[str], environ: dict[str, str], log: str) -> None:
        server = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_rank(server, arguments, environ, log)
            except BaseException:  # noqa: BLE001 - a rank never returns into the server's own code
                traceback.print_exc()
            finally:
                os._exit(1)
        self._ranks.add(pid)
        self._send("started", pid=pid)

    def _become_rank(self, server: int, arguments: Sequence[str], environ: dict[str, str], log: str) -> None:
        """In the child: a session, a log and an environment of its own, and nothing of the server's."""
        os.setsid()
        die_with_parent()
        if os.getppid() != server:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        redirect_output(log)
        os.environ |= environ
        words = [sys.executable, "-u", "-m", self._module, *arguments]
        if self._method == "spawn":
            os.execv(sys.executable, words)  # noqa: S606 - no shell is wanted
        self._channel.close()
        self._selector.close()
        os.close(self._woken)
        os.close(self._wake)
        _show_as(words)
        if "numpy" in sys.modules:
            # Forked ranks would all draw the same numbers.
            sys.modules["numpy"].random.seed()
        importlib.import_module(self._module).main(arguments)
        os._exit(0)

    def _send(self, event: str, **fields: Any) -> None:
        self._channel.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


def _refuse_threads() -> None:
    """Raise if this process has a second thread: a lock that it holds would stay locked in every rank."""
    others = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    names = [(task / "comm").read_text().strip() for task in others]
    if names:
        raise UserError(
            f"the imports of a rank started {len(names)} threads ({', '.join(names)}), so ranks cannot be"
            " forked from the process that made them; set train.start_method=spawn"
        )


def _send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a rank; SIGKILL goes to all that it has started, too."""
    if number == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
            return
        # It does not lead a session yet.
    os.kill(pid, number)


def redirect_output(path: str) -> None:
    """Send everything that this process prints, C libraries included, to a file; it has no input."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _show_as(words: Sequence[str]) -> None:
    """Let `ps` and `top` show this command instead of the server's own, as far as there is room."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_START + 1])
    text = b"\0".join(word.encode() for word in words)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


if __name__ == "__main__":
    main()

"""The process that starts the ranks of a node: `python -m train.node.forkserver CHANNEL METHOD MODULE ARGS`.

With `fork`, this process imports the modules of a rank once and forks each rank from itself: starting a rank
then takes little CPU time, and a shared file system is read once per node. With `spawn`, it imports nothing
and each rank is a new interpreter. It has one thread and never uses a GPU: neither threads nor a CUDA context
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
    # Importing pyarrow starts a thread of its allocator, importing numpy one OpenBLAS thread per extra core.
    # Ranks compute with torch, whose threads start with the first computation and obey OMP_NUM_THREADS.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
    # Lets torch count GPUs without initialising CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
"""Environment variables that keep imported libraries from starting threads or CUDA."""
IMPORT_S_VARIABLE = "SHARDLINE_IMPORT_S"
"""Variable with the seconds of imports for a rank's start that were made before it was forked."""
LISTENER_VARIABLE = "SHARDLINE_LISTENER"
"""Variable with the file descriptor of the listening socket that rank 0 inherits, for the ranks' store."""
_DESCRIPTORS = 8
_ARG_START = 45
"""Index of the field arg_start in /proc/PID/stat, counted after the name; arg_end follows it."""


def main() -> None:
    """Import what ranks need, then start ranks until the agent closes the channel."""
    descriptor, method, module, *arguments = sys.argv[1:]
    die_with_parent()
    # Ranks start with these signals blocked and unblock them once their handlers are installed.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with socket.socket(fileno=int(descriptor)) as channel:
        channel.set_inheritable(False)
        server = _Server(channel, method, module)
        server.prepare(arguments)
        server.serve()


class _Server:
    """Starts ranks on request of the agent and reports their end."""

    def __init__(self, channel: socket.socket, method: str, module: str) -> None:
        self._channel = channel
        self._method = method
        self._module = module
        self._ranks: set[int] = set()
        self._descriptors: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe()

    def prepare(self, arguments: Sequence[str]) -> None:
        """Import the module with `fork`; exit with the failure if that fails or leaves a thread running."""
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
        """Handle messages of the agent and report every rank that ends."""
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
                data, received, _, _ = socket.recv_fds(self._channel, 65536, _DESCRIPTORS)
                if not data:
                    return
                self._descriptors += received
                *lines, unfinished = (unfinished + data).split(b"\n")
                for line in lines:
                    self._follow(json.loads(line))
            self._report_ended()

    def _follow(self, message: dict[str, Any]) -> None:
        if message["do"] == "start":
            inherited = self._descriptors.pop(0) if message["inherits"] else None
            self._start(message["arguments"], message["environ"], message["log"], inherited)
            if inherited is not None:
                os.close(inherited)
            return
        for pid in self._ranks:
            # These processes were not waited for, so their ids cannot have been reused.
            _send_signal(pid, signal.Signals(message["number"]))

    def _report_ended(self) -> None:
        for pid in list(self._ranks):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ranks.remove(pid)
                self._send("ended", pid=pid, code=os.waitstatus_to_exitcode(status))

    def _start(
        self, arguments: Sequence[str], environ: dict[str, str], log: str, inherited: int | None
    ) -> None:
        server = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                if inherited is not None:
                    environ[LISTENER_VARIABLE] = str(inherited)
                    os.set_inheritable(inherited, self._method == "spawn")
                self._become_rank(server, arguments, environ, log)
            except BaseException:  # noqa: BLE001 - a rank never returns into the server's own code
                traceback.print_exc()
            finally:
                os._exit(1)
        self._ranks.add(pid)
        self._send("started", pid=pid)

    def _become_rank(self, server: int, arguments: Sequence[str], environ: dict[str, str], log: str) -> None:
        """Turn the forked child into a rank: own session, log and environment; closes the server's files."""
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
            # Otherwise all forked ranks would draw the same numbers.
            sys.modules["numpy"].random.seed()
        importlib.import_module(self._module).main(arguments)
        os._exit(0)

    def _send(self, event: str, **fields: Any) -> None:
        self._channel.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


def _refuse_threads() -> None:
    """Raise an error if there is a second thread: a lock that it holds would stay locked in every rank."""
    others = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    names = [(task / "comm").read_text().strip() for task in others]
    if names:
        raise UserError(
            f"an import started {len(names)} threads ({', '.join(names)}), so ranks cannot be forked;"
            " set train.start_method=spawn"
        )


def _send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a rank; SIGKILL is sent to its whole process group."""
    if number == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
            return
        # The rank does not lead a process group yet.
    os.kill(pid, number)


def redirect_output(path: str) -> None:
    """Redirect stdout and stderr of this process, C libraries included, to a file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _show_as(words: Sequence[str]) -> None:
    """Make `ps` and `top` show this command instead of the server's, truncated to the available space."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_START + 1])
    text = b"\0".join(word.encode() for word in words)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


if __name__ == "__main__":
    main()

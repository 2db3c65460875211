"""The `shardline` command for tests, forked from a process that has imported the launcher.

A new interpreter spends one to two CPU seconds on imports. Each pytest process therefore has one server
(`tests/command_server.py`), and every command is a fork of it that continues as `python -P -m launcher` does.
Commands cannot be forked from pytest itself, which has threads of torch.
"""

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from train.node.forkserver import ONE_THREAD

COMMAND = (sys.executable, "-P", "-m", "launcher")
_SERVER = Path(__file__).with_name("command_server.py")
_STARTING = threading.Lock()


def run_command(
    *arguments: str,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 900,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a forked process, to its end. Thread-safe.

    Args:
        *arguments: Arguments of the command.
        cwd: Its working directory; by default that of this process.
        environ: Its whole environment; by default that of this process. What Python itself reads when it
            starts, such as `PYTHONPATH`, has no effect.
        timeout_s: Seconds after which it is killed.

    Raises:
        subprocess.TimeoutExpired: It was killed.
    """
    environ = dict(os.environ if environ is None else environ)
    assert environ.get("PYTHONPATH") == os.environ.get("PYTHONPATH"), "use run_interpreter"
    request = json.dumps({"arguments": arguments, "cwd": str(cwd or Path.cwd()), "environ": environ}).encode()
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with channel, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with theirs:
            # The kernel keeps the messages of several threads apart.
            socket.send_fds(_server(), [request], [out.fileno(), err.fileno(), theirs.fileno()])
        pid = _number(channel)
        try:
            channel.settimeout(timeout_s)
            code = _number(channel)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired([*COMMAND, *arguments], timeout_s) from error
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*COMMAND, *arguments], code, out.read(), err.read())


def run_interpreter(
    *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a new interpreter, as a shell does, for tests in which that matters."""
    words = [*COMMAND, *arguments]
    return subprocess.run(
        words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=900, check=False
    )


def _number(channel: socket.socket) -> int:
    message = channel.recv(32)
    assert message, "the server of the commands died; its stderr says why"
    return int(message)


def _server() -> socket.socket:
    """Return this process's channel to its server, which ends with this process, however that ends."""
    with _STARTING:
        return _start_server()


@functools.cache
def _start_server() -> socket.socket:
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-P", _SERVER, str(theirs.fileno())],
            env={**os.environ, **ONE_THREAD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )

    def end() -> None:
        channel.close()
        server.kill()
        server.wait()

    atexit.register(end)
    return channel

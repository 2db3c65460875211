"""The process from which `shardline` commands of tests are forked: `python -P command_server.py CHANNEL`.

`tests/commands.py` is the other side of the channel. A request is one message with the descriptors of the
command's stdout, its stderr and a channel on which its process id and its exit code are reported.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from pathlib import Path

import launcher
from train.rank.gc_policy import frozen_imports

_LARGEST_REQUEST = 2**18


def serve(descriptor: int) -> None:
    """Fork a command for every request until the channel is closed."""
    # Ctrl-C in a terminal also reaches the server, but is meant for the commands.
    at_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel then removes the processes that watch commands.
    at_child = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as channel:
        channel.set_inheritable(False)
        _preload()
        while True:
            request, descriptors, _, _ = socket.recv_fds(channel, _LARGEST_REQUEST, 3)
            if not request:
                return
            if os.fork() == 0:
                break
            for received in descriptors:
                os.close(received)
    *outputs, reports = descriptors
    signal.signal(signal.SIGCHLD, at_child)
    _fork_watched(reports)
    signal.signal(signal.SIGINT, at_interrupt)
    _be_command(**json.loads(request), outputs=outputs)


def _preload() -> None:
    """Import the launcher and what its functions import, except scipy, which few commands need."""
    with frozen_imports():
        for module in pkgutil.walk_packages(launcher.__path__, "launcher."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        importlib.import_module("submitit")
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, "an import started a thread; a lock that it holds would stay locked in every fork"


def _fork_watched(reports: int) -> None:
    """Fork, and return in the child only; the parent reports the child's id and then its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(reports)
        return
    # Pytest may have ended before the command.
    with contextlib.suppress(OSError), socket.socket(fileno=reports) as channel:
        channel.send(str(pid).encode())
        channel.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _be_command(arguments: list[str], cwd: str, environ: dict[str, str], outputs: list[int]) -> None:
    """Run the command as the main program of this process."""
    for standard, output in enumerate(outputs, start=1):
        os.dup2(output, standard)
        os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments
    try:
        runpy.run_module("launcher", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            # The interpreter's own exit frees all modules, which takes longer than most commands.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code & 0xFF)
        raise


if __name__ == "__main__":
    serve(int(sys.argv[1]))

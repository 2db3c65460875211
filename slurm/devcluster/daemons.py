"""Starting daemons, waiting until they answer, and ending all processes of a cluster."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from slurm.devcluster.packages import find

_PATIENCE_S = 60.0
_POLL_S = 0.1
_MARK = "SHARDLINE_DEVCLUSTER"
"""Variable that holds the cluster's directory in every process and every job of the cluster."""


class DaemonError(Exception):
    """A daemon did not start; the message has the end of its log."""


def start(program: str, *arguments: str, root: Path, environ: Mapping[str, str]) -> None:
    """Start a daemon in its own session, with its output in the cluster's directory.

    Args:
        program: Name of the program.
        *arguments: Its arguments.
        root: Directory of the cluster.
        environ: Environment variables in addition to those of this process.
    """
    path = find(program)
    assert path is not None, f"ensure_programs has not checked for {program}"
    log = root / "log" / f"{program}.out"
    with log.open("ab") as output:
        subprocess.Popen(
            [path, *arguments],
            env={**os.environ, **environ, _MARK: str(root)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=root,
            start_new_session=True,
        )


def wait_until(answers: Callable[[], bool], what: str, log: Path) -> None:
    """Wait until a daemon answers.

    Args:
        answers: Returns whether it does.
        what: Name of the daemon for the error message.
        log: The daemon's log file.

    Raises:
        DaemonError: It did not answer within a minute.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not answers():
        if time.monotonic() > deadline:
            output = log.read_text(errors="replace")[-1500:] if log.exists() else "no log"
            raise DaemonError(f"{what} does not answer; {log}:\n{output}")
        time.sleep(_POLL_S)


def succeeds(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a command exits with 0."""
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=False)
    return done.returncode == 0


def processes_of(root: Path) -> list[psutil.Process]:
    """Return all running processes of a cluster, including its jobs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == str(root) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_all(root: Path) -> None:
    """End a cluster's processes with SIGTERM, and with SIGKILL those that remain after 10 seconds."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        processes = processes_of(root)
        for process in processes:
            try:
                send(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=10)

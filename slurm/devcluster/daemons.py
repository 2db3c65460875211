"""Starting processes that stay, waiting until they answer, and ending every process of a cluster."""

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
"""Every process of a cluster, and every job of it, carries its directory in this variable."""


class DaemonError(Exception):
    """A daemon did not start; the message has the end of what it said."""


def start(program: str, *arguments: str, root: Path, environ: Mapping[str, str]) -> None:
    """Start a daemon in a session of its own, with its output in the cluster's directory."""
    path = find(program)
    assert path is not None, f"{program} was checked for before"
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
    """Return when something answers.

    Raises:
        DaemonError: it did not within a minute.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not answers():
        if time.monotonic() > deadline:
            output = log.read_text(errors="replace")[-1500:] if log.exists() else "no log"
            raise DaemonError(f"{what} does not answer; {log}:\n{output}")
        time.sleep(_POLL_S)


def succeeds(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a command ends with 0."""
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=False)
    return done.returncode == 0


def processes_of(root: Path) -> list[psutil.Process]:
    """Every live process that a cluster started, jobs included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == str(root) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_all(root: Path) -> None:
    """End a cluster's processes: politely, then not."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        processes = processes_of(root)
        for process in processes:
            try:
                send(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=10)

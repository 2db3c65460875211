"""Submitit's only owner: hands a callable to an executor and returns at once.

`python -m slurm.executor FOLDER` is what every node of a Slurm job runs: Submitit's own start of the callable
that lies in the folder, after a look at whose it is.
"""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.environment import job_id_here, outside_of_jobs

_PICKLE = "submitted.pkl"
"""The callable and the run's path, under a name that no job id has to be known for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """What the local executor is asked for."""

    folder: Path
    """Where Submitit keeps its own files and logs."""
    time_min: int
    signal_delay_s: int
    gpus: int
    environ: Mapping[str, str]
    """Variables for the job, added to this process's."""


def submit_local(request: LocalRequest, function: Callable[..., object], *args: Any) -> str:
    """Start a job on this machine that outlives the shell; returns Submitit's job id.

    Submitit's controller stays a child in the caller's session, where Ctrl-C and a closed terminal reach it.
    So it is started from a process of its own session, with nothing of the terminal left open.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _submit_detached(request, function, args, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.loads(pipe.read() or '{"error": "the submitting process died"}')
    os.waitpid(child, 0)
    if "error" in answer:
        raise RuntimeError(f"Submitit could not start the job: {answer['error']}")
    return str(answer["job_id"])


def _submit_detached(
    request: LocalRequest, function: Callable[..., object], args: tuple[Any, ...], write_end: int
) -> None:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.environ |= dict(request.environ)
        answer = {"job_id": _start(request, function, args)}
    except BaseException as error:  # noqa: BLE001 - travels to the parent through the pipe
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(write_end, json.dumps(answer).encode())
    os._exit(0)


def _start(request: LocalRequest, function: Callable[..., object], args: tuple[Any, ...]) -> str:
    import submitit

    executor = submitit.LocalExecutor(folder=request.folder)
    executor.update_parameters(
        timeout_min=request.time_min,
        signal_delay_s=request.signal_delay_s,
        tasks_per_node=1,
        gpus_per_node=request.gpus,
        stderr_to_stdout=True,
    )
    return str(executor.submit(function, *args).job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmRequest:
    """What sbatch is asked for."""

    folder: Path
    """On a file system that all nodes share; holds the callable, the script and the logs."""
    script: str
    nodes: int


def submit_slurm(request: SlurmRequest, function: Callable[..., object], *args: Any) -> str:
    """Hand a job to Slurm; returns its id.

    Raises:
        SubmissionError: sbatch said no, or did not answer.
    """
    import submitit
    from submitit.core import utils

    class Executor(submitit.SlurmExecutor):  # type: ignore[misc]
        """Submitit's, with our script, and with a callable that the job finds without its id."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return request.script

        def _num_tasks(self) -> int:
            return request.nodes

    request.folder.mkdir(parents=True, exist_ok=True)
    pickle = request.folder / _PICKLE
    utils.DelayedSubmission(function, *args).dump(pickle)
    try:
        with _without_an_allocation():
            job_id = str(Executor(request.folder)._submit_command("").job_id)
        # Submitit leaves a link from the script's first name to the one with the id.
        for link in request.folder.glob(".submission_file_*"):
            link.unlink()
        return job_id
    except (utils.FailedJobError, utils.FailedSubmissionError) as error:
        raise SubmissionError(_what_sbatch_said(str(error))) from error


class SubmissionError(Exception):
    """sbatch did not take the job; the message is what it said."""


def _what_sbatch_said(text: str) -> str:
    lines = [line.split("sbatch: error: ")[-1] for line in text.splitlines() if "sbatch: error:" in line]
    return "; ".join(lines) or text.strip()


@contextmanager
def _without_an_allocation() -> Iterator[None]:
    """What is submitted from inside a job must not inherit that job's variables."""
    outer = {name: os.environ.pop(name) for name in os.environ.keys() - outside_of_jobs(os.environ).keys()}
    try:
        yield
    finally:
        os.environ.update(outer)


def run_task(folder: Path) -> None:
    """Run what was submitted from a folder, as Submitit's task on this node.

    Raises:
        PermissionError: somebody else could have put it there.
    """
    from submitit.core.submission import process_job

    pickle = folder / _PICKLE
    for path in (folder, pickle):
        _refuse_foreign(path)
    # Submitit looks under the job's id, which nobody knew before sbatch had answered.
    with suppress(FileExistsError):
        os.link(pickle, folder / f"{job_id_here(os.environ)}_{_PICKLE}")
    process_job(folder)


def _refuse_foreign(path: Path) -> None:
    facts = path.lstat()
    if facts.st_uid != os.getuid() or stat.S_ISLNK(facts.st_mode) or facts.st_mode & stat.S_IWOTH:
        raise PermissionError(f"{path} is not this user's alone: nothing of it is run")


if __name__ == "__main__":
    run_task(Path(sys.argv[1]))

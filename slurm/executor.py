"""Submits callables through Submitit and returns immediately. The only module that imports Submitit.

Every node of a Slurm job runs `python -m slurm.executor FOLDER`: it checks the owner of the pickled callable
in the folder and starts it with Submitit.
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
"""File name of the pickled callable; without the job id, which is unknown before sbatch answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """A request to the local executor."""

    folder: Path
    """Folder for Submitit's files and logs."""
    time_min: int
    signal_delay_s: int
    gpus: int
    environ: Mapping[str, str]
    """Environment variables of the job, in addition to those of this process."""


def submit_local(request: LocalRequest, function: Callable[..., object], *args: Any) -> str:
    """Start a job on this machine that outlives the shell and return Submitit's job id.

    Submitit starts its controller in the caller's session, where Ctrl-C and a closed terminal would end it.
    A forked process therefore starts it in a new session with no descriptor of the terminal open.

    Raises:
        RuntimeError: Submitit could not start the job.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _submit_detached(request, function, args, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.loads(pipe.read() or '{"error": "the submitting process exited without an answer"}')
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
    except BaseException as error:  # noqa: BLE001 - the parent raises it again
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
    """A request to sbatch."""

    folder: Path
    """Folder of the pickled callable, the script and the logs, on a file system that all nodes share."""
    script: str
    nodes: int


def submit_slurm(request: SlurmRequest, function: Callable[..., object], *args: Any) -> str:
    """Submit a job to Slurm and return its id.

    Raises:
        SubmissionError: sbatch rejected the job or did not answer.
    """
    import submitit
    from submitit.core import utils

    class Executor(submitit.SlurmExecutor):  # type: ignore[misc]
        """Submitit's executor with Shardline's batch script."""

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
        # Submitit leaves a link from the script's temporary name to the one with the job id.
        for link in request.folder.glob(".submission_file_*"):
            link.unlink()
        return job_id
    except (utils.FailedJobError, utils.FailedSubmissionError) as error:
        raise SubmissionError(_sbatch_errors(str(error))) from error


class SubmissionError(Exception):
    """sbatch did not accept the job; the message is its error output."""


def _sbatch_errors(text: str) -> str:
    lines = [line.split("sbatch: error: ")[-1] for line in text.splitlines() if "sbatch: error:" in line]
    return "; ".join(lines) or text.strip()


@contextmanager
def _without_an_allocation() -> Iterator[None]:
    """Hide the variables of a surrounding job, which a job submitted from inside it must not inherit."""
    outer = {name: os.environ.pop(name) for name in os.environ.keys() - outside_of_jobs(os.environ).keys()}
    try:
        yield
    finally:
        os.environ.update(outer)


def run_task(folder: Path) -> None:
    """Run the callable that was submitted from a folder, as Submitit's task on this node.

    Raises:
        PermissionError: Another user owns or could have written the files.
    """
    from submitit.core.submission import process_job

    pickle = folder / _PICKLE
    for path in (folder, pickle):
        _refuse_foreign(path)
    # Submitit looks for a file named after the job id, which was unknown when the file was written.
    with suppress(FileExistsError):
        os.link(pickle, folder / f"{job_id_here(os.environ)}_{_PICKLE}")
    process_job(folder)


def _refuse_foreign(path: Path) -> None:
    facts = path.lstat()
    if facts.st_uid != os.getuid() or stat.S_ISLNK(facts.st_mode) or facts.st_mode & stat.S_IWOTH:
        raise PermissionError(
            f"refusing to run {path}: it has to be owned by this user, no link, and not writable by others"
        )


if __name__ == "__main__":
    run_task(Path(sys.argv[1]))

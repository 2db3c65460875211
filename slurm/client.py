"""Calls of Slurm's commands, with retries while the controller is unreachable and typed results."""

import getpass
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from shutil import which
from typing import TypeVar

from slurm.environment import job_name_of, outside_of_jobs
from slurm.states import SACCT_FIELDS, SQUEUE_FORMAT, JobRecord, newest, parse_jobs

_AWAY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Zero Bytes were transmitted",
    "slurm_load_jobs error: Unexpected message",
    "Slurm backup controller in standby mode",
)
PATIENCE_S = 90.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0


T = TypeVar("T")


class SlurmError(Exception):
    """A Slurm command failed; the message is its error output."""


class SlurmAwayError(SlurmError):
    """Slurm's controller is unreachable."""


def patiently(attempt: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Retry a call with growing pauses while the controller is unreachable.

    Raises:
        SlurmAwayError: The controller was unreachable for `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except SlurmAwayError:
            if time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def is_away(message: str) -> bool:
    """Return whether an error message of Slurm means that the controller is unreachable."""
    return any(sign in message for sign in _AWAY)


def call(*command: str, stdin: str | None = None) -> str:
    """Run a command and return its standard output.

    Raises:
        SlurmAwayError: The controller is unreachable.
        SlurmError: The command is missing or failed for another reason.
    """
    if which(command[0]) is None:
        raise SlurmError(f"command not found: {command[0]}; submit from a login node of the cluster")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, input=stdin, env=outside_of_jobs(os.environ)
    )
    if done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise (SlurmAwayError if is_away(output) else SlurmError)(output or f"{command[0]} failed")
    return done.stdout


def queue(patience_s: float = PATIENCE_S) -> list[JobRecord]:
    """Return all jobs of this user that the controller still lists, in one call."""
    command = ("squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}")
    return parse_jobs(patiently(lambda: call(*command, f"--format={SQUEUE_FORMAT}"), patience_s))


def accounting(keys: Iterable[str]) -> list[JobRecord]:
    """Return the accounting records of jobs by their keys; an empty list without an accounting database."""
    wanted = ",".join(sorted({job_name_of(key) for key in keys}))
    if not wanted or which("sacct") is None:
        return []
    command = [
        "sacct",
        "--allocations",
        "--duplicates",
        "--noheader",
        "--parsable2",
        "--starttime=now-90days",
    ]
    try:
        return parse_jobs(call(*command, f"--name={wanted}", f"--format={SACCT_FIELDS}"))
    except SlurmError:
        return []


def find_job(key: str) -> JobRecord | None:
    """Return the job of a key, or None. Shows whether an sbatch that timed out has submitted its job."""
    return newest(queue()).get(key)


def state_of(job_id: str) -> JobRecord | None:
    """Return the current record of a job, or None if the controller no longer lists it."""
    return next((record for record in queue() if record.job_id == job_id), None)


def would_accept(script: str) -> None:
    """Let sbatch validate a script without submitting it.

    Raises:
        SlurmError: sbatch rejects the script; the message has its reasons.
    """
    try:
        call("sbatch", "--test-only", stdin=script)
    except SlurmAwayError:
        raise
    except SlurmError as error:
        stderr = str(error).replace("allocation failure: ", "").replace("sbatch: error: ", "")
        raise SlurmError("; ".join(stderr.splitlines())) from error


def requeue(job_id: str, exclude: Sequence[str] = ()) -> None:
    """Requeue a running job and exclude nodes that failed their check."""
    patiently(lambda: call("scontrol", "requeue", job_id))
    if exclude:
        # Slurm allows this for pending jobs only, so it follows the requeue, which also ends this process.
        nodes = ",".join(exclude)
        patiently(lambda: call("scontrol", "update", f"jobid={job_id}", f"ExcNodeList={nodes}"))


def cancel(job_id: str, *, waiting_only: bool = False) -> None:
    """Cancel a job or all elements of an array; with `waiting_only`, only those that are pending."""
    which = ["--state=PENDING"] if waiting_only else []
    patiently(lambda: call("scancel", *which, job_id))


def partitions() -> list[str]:
    """Return one line per partition: nodes, their state, time limit and generic resources."""
    lines = call("sinfo", "--noheader", "--format=%P|%D|%t|%l|%G").splitlines()
    texts = []
    for line in lines:
        name, nodes, state, limit, gres = line.strip().split("|")
        texts.append(f"{name} {nodes} {state}, limit {limit}{'' if gres == '(null)' else f', {gres}'}")
    return texts


def largest_array() -> int:
    """Return the largest job array that the site allows (Slurm's MaxArraySize).

    Raises:
        SlurmError: The output of scontrol has no MaxArraySize.
    """
    for line in patiently(lambda: call("scontrol", "show", "config")).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return int(value)
    raise SlurmError("no MaxArraySize in the output of: scontrol show config")


def accounting_answers() -> bool:
    """Return whether an accounting database answers."""
    try:
        call("sacct", "--noheader", "--allocations", "--starttime=now", "--format=JobID")
    except SlurmError:
        return False
    return True


def ping() -> str:
    """Return the output of scontrol ping."""
    return call("scontrol", "ping").strip()

"""Slurm's commands: asked with patience while the controller is away, answered in typed records."""

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
    """A command of Slurm's failed; the message is what it said."""


class SlurmAwayError(SlurmError):
    """The controller does not answer."""


def patiently(attempt: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Try again, ever more slowly, while the controller is away.

    Raises:
        SlurmAwayError: it stayed away for that long.
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
    """Whether a message of Slurm's says that the controller does not answer."""
    return any(sign in message for sign in _AWAY)


def call(*command: str, stdin: str | None = None) -> str:
    """Standard output of one command.

    Raises:
        SlurmAwayError: the controller does not answer.
        SlurmError: anything else.
    """
    if which(command[0]) is None:
        raise SlurmError(f"{command[0]} is not on this machine; submit from a login node of the cluster")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, input=stdin, env=outside_of_jobs(os.environ)
    )
    if done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise (SlurmAwayError if is_away(output) else SlurmError)(output or f"{command[0]} failed")
    return done.stdout


def queue(patience_s: float = PATIENCE_S) -> list[JobRecord]:
    """All jobs of this user that the controller remembers, in one call."""
    command = ("squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}")
    return parse_jobs(patiently(lambda: call(*command, f"--format={SQUEUE_FORMAT}"), patience_s))


def accounting(keys: Iterable[str]) -> list[JobRecord]:
    """What the accounting database says of jobs by their keys; nothing where there is no database."""
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
    """The job of this key, if Slurm has it: the way to learn whether an unanswered sbatch went through."""
    return newest(queue()).get(key)


def state_of(job_id: str) -> JobRecord | None:
    """One job as it is now; None when the controller has forgotten it."""
    return next((record for record in queue() if record.job_id == job_id), None)


def would_accept(script: str) -> None:
    """Have sbatch check a script without submitting it.

    Raises:
        SlurmError: with what is wrong with it.
    """
    try:
        call("sbatch", "--test-only", stdin=script)
    except SlurmAwayError:
        raise
    except SlurmError as error:
        stderr = str(error).replace("allocation failure: ", "").replace("sbatch: error: ", "")
        raise SlurmError("; ".join(stderr.splitlines())) from error


def requeue(job_id: str, exclude: Sequence[str] = ()) -> None:
    """Put a running job back into the queue, away from nodes that proved unfit."""
    patiently(lambda: call("scontrol", "requeue", job_id))
    if exclude:
        # Allowed for pending jobs only: so after, and while this process is being ended.
        nodes = ",".join(exclude)
        patiently(lambda: call("scontrol", "update", f"jobid={job_id}", f"ExcNodeList={nodes}"))


def cancel(job_id: str, *, waiting_only: bool = False) -> None:
    """End a job of ours, or all elements of an array: waiting or running, or only those that wait."""
    which = ["--state=PENDING"] if waiting_only else []
    patiently(lambda: call("scancel", *which, job_id))


def partitions() -> list[str]:
    """Each partition with its nodes, their state, its time limit and its generic resources."""
    lines = call("sinfo", "--noheader", "--format=%P|%D|%t|%l|%G").splitlines()
    texts = []
    for line in lines:
        name, nodes, state, limit, gres = line.strip().split("|")
        texts.append(f"{name} {nodes} {state}, limit {limit}{'' if gres == '(null)' else f', {gres}'}")
    return texts


def largest_array() -> int:
    """How many elements a job array may have at this site."""
    for line in patiently(lambda: call("scontrol", "show", "config")).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return int(value)
    raise SlurmError("scontrol show config names no MaxArraySize")


def accounting_answers() -> bool:
    """Whether there is an accounting database."""
    try:
        call("sacct", "--noheader", "--allocations", "--starttime=now", "--format=JobID")
    except SlurmError:
        return False
    return True


def ping() -> str:
    """What the controller says of itself."""
    return call("scontrol", "ping").strip()

"""End a run of the user, immediately or after it has saved."""

import contextlib

import psutil

from launcher.errors import refuse
from launcher.records.jobs import Intent, Job, is_alive, read_jobs
from launcher.records.runs import ensure_ours, name_to_type
from launcher.status.runs import read_status
from slurm.client import SlurmError, cancel, find_job
from train.failures import ExitCode
from train.journal.events import Cancelled
from train.rundir import RunDir

_GONE_WITHIN_S = 10


def cancel_run(run: RunDir) -> bool:
    """Kill a pending or running job of a run, and all of its ranks.

    Returns:
        Whether there was a job to kill.

    Raises:
        Refused: The job is on another machine or is being started, or Slurm does not cancel it.
    """
    ensure_ours(run)
    jobs = read_jobs(run)
    run.adopt_umask()
    last = jobs[-1] if jobs else None
    if last and last.name:
        return _cancel_in_slurm(run, last.name)
    if isinstance(last, Intent) and read_status(run).state == "PENDING":
        raise refuse("run.starting", "RUN", f"{run.root.name} is being started", "try again in a moment")
    if not isinstance(last, Job):
        return False
    if not last.is_here:
        fix = f"on {last.host}, run: shardline cancel {name_to_type(run)}"
        raise refuse("run.host", "RUN", f"{run.root.name} runs on another machine, {last.host}", fix)
    if not is_alive(last):
        return False
    run.log(Cancelled(job_id=last.job_id))
    _kill_family(int(last.job_id))
    return True


def stop_run(run: RunDir) -> None:
    """Ask a running job to save at its next step and end. It does not continue until `resume`.

    Raises:
        Refused: The run is not running.
    """
    ensure_ours(run)
    status = read_status(run)
    if status.state != "RUNNING":
        name = name_to_type(run)
        fix = f"shardline cancel {name}" if status.state == "PENDING" else f"shardline status {name}"
        raise refuse(
            "run.idle", "RUN", f"{status.run} is {status.state.lower()}, not running", fix, ExitCode.REFUSED
        )
    run.adopt_umask()
    run.stop_request.touch()


def _cancel_in_slurm(run: RunDir, name: str) -> bool:
    """Cancel the job by its name, which is unique to this run. An id in a file may belong to another job."""
    try:
        job = find_job(name)
        if job is None or job.phase == "ended":
            return False
        run.log(Cancelled(job_id=job.job_id))
        cancel(job.job_id)
    except SlurmError as error:
        raise refuse(
            "slurm.away",
            "RUN",
            f"Slurm did not cancel {run.root.name}: {error}",
            "try again later",
            ExitCode.REFUSED,
        ) from error
    return True


def _kill_family(pid: int) -> None:
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        controller = psutil.Process(pid)
        family = [controller, *controller.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=_GONE_WITHIN_S)

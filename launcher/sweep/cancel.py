"""End a sweep immediately, or after its running trials have saved. Pending trials do not start."""

from contextlib import suppress

import psutil

from launcher.errors import refuse
from launcher.lifecycle.cancel import cancel_run
from launcher.records.jobs import is_alive, latest_name
from launcher.records.runs import ensure_ours
from launcher.records.sweep_journal import SweepCancelled
from launcher.records.sweeps import SweepDir
from launcher.status.runs import RunStatus
from launcher.status.state import ALIVE
from launcher.status.trials import read_sweep
from slurm.client import SlurmError, cancel, queue
from slurm.environment import job_name_of
from train.failures import ExitCode
from train.journal.events import Cancelled


def cancel_sweep(sweep: SweepDir) -> int:
    """Kill all pending and running trials, and return how many there were.

    Raises:
        Refused: The sweep belongs to another user, or Slurm does not cancel its jobs.
    """
    alive = _alive(sweep)
    names = {array.name for array in sweep.arrays()}
    apart = []
    for status in alive:
        run = sweep.run(status.run)
        if not run.root.exists():
            continue
        if job_name_of(latest_name(run) or "") in names:
            run.log(Cancelled(job_id=status.job_id))
        else:
            apart.append(run)
    _end_jobs(sweep, waiting_only=False)
    for run in apart:
        cancel_run(run)
    return len(alive)


def stop_sweep(sweep: SweepDir) -> int:
    """Ask all running trials to save and end, and return how many there are.

    Raises:
        Refused: The sweep belongs to another user, or Slurm does not cancel its pending jobs.
    """
    running = [status for status in _alive(sweep) if status.state == "RUNNING"]
    _end_jobs(sweep, waiting_only=True)
    for status in running:
        sweep.run(status.run).stop_request.touch()
    return len(running)


def _alive(sweep: SweepDir) -> list[RunStatus]:
    ensure_ours(sweep)
    sweep.adopt_umask()
    statuses = read_sweep(sweep, sweep.read())
    return [status for status in statuses if status.state in ALIVE]


def _end_jobs(sweep: SweepDir, *, waiting_only: bool) -> None:
    """Record the cancellation, then end the jobs, so that a trial without a job counts as cancelled."""
    sweep.log(SweepCancelled(waiting_only=waiting_only))
    for job in sweep.array_jobs().values():
        if is_alive(job):
            # Trials run in their own sessions and are not killed by this.
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(job.job_id)).kill()
    names = {array.name for array in sweep.arrays() if array.executor == "slurm"}
    try:
        # Names of arrays are unique to this sweep. An id in a file may belong to another job.
        records = [record for record in queue() if record.name in names] if names else []
        for array in sorted(
            {record.job_id.partition("_")[0] for record in records if record.phase != "ended"}
        ):
            cancel(array, waiting_only=waiting_only)
    except SlurmError as error:
        raise refuse(
            "slurm.away",
            "SWEEP",
            f"Slurm did not cancel {sweep.root.name}: {error}",
            "try again later",
            ExitCode.REFUSED,
        ) from error

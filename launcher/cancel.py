"""Ending a run that is ours, at once."""

import contextlib
import os

import psutil

from launcher.errors import refuse
from launcher.status import is_alive, read_status
from train.rundir import RunDir, read_lines

_GONE_WITHIN_S = 10


def cancel_run(run: RunDir) -> bool:
    """Kill a run's job; its ranks die with it.

    Returns:
        Whether there was something to kill.

    Raises:
        Refused: the job is on another machine, or is being started right now.
    """
    jobs = list(read_lines(run.jobs))
    if read_status(run).state == "PENDING" and "job_id" not in jobs[-1]:
        raise refuse("run.starting", "RUN", f"{run.root.name} is being started", "try again in a moment")
    if jobs and jobs[-1].get("host", os.uname().nodename) != os.uname().nodename:
        raise refuse("run.host", "RUN", f"{run.root.name} runs on {jobs[-1]['host']}", "cancel it there")
    if not jobs or "job_id" not in jobs[-1] or not is_alive(jobs[-1]):
        return False
    run.log_event("cancelled", job_id=jobs[-1]["job_id"])
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        controller = psutil.Process(int(jobs[-1]["job_id"]))
        family = [controller, *controller.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=_GONE_WITHIN_S)
    return True

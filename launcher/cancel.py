"""Ending a run that is ours, at once."""

import psutil

from launcher.status import is_alive
from train.rundir import RunDir, read_lines

_GONE_WITHIN_S = 10


def cancel_run(run: RunDir) -> bool:
    """Kill a run's job; its ranks die with it.

    Returns:
        Whether there was something to kill.
    """
    jobs = [row for row in read_lines(run.jobs) if "job_id" in row]
    if not jobs or not is_alive(jobs[-1]):
        return False
    run.log_event("cancelled", job_id=jobs[-1]["job_id"])
    controller = psutil.Process(int(jobs[-1]["job_id"]))
    family = [controller, *controller.children(recursive=True)]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=_GONE_WITHIN_S)
    return True

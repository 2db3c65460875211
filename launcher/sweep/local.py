"""Run a sweep on this machine: one detached process starts the trials in turn, each as a separate run."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.lifecycle.start import start_job
from launcher.node.entry import restore_visible_devices
from launcher.node.rungs import assigned, step_of
from launcher.node.trial import open_trial
from launcher.records.jobs import Job, is_alive, read_jobs
from launcher.records.sweeps import ArrayJob, SweepDir
from launcher.status.runs import read_status
from train.node.signals import die_with_parent
from train.rundir import RunDir

_LOOK_EVERY_S = 0.2


# Older sweeps with frozen code call this function by its name.
def run_slices(root: str, names: Sequence[str], parallel: int) -> None:
    """Run the arrays of a sweep in order. This is the entry point of the detached process.

    Args:
        root: The sweep directory.
        names: Names of the arrays.
        parallel: Maximum number of trials that run at the same time.
    """
    die_with_parent()
    sweep = SweepDir(Path(root))
    sweep.adopt_umask()
    _forget_submitit()
    arrays = {array.name: array for array in sweep.arrays()}
    for name in names:
        _run_array(sweep, arrays[name], parallel)


def _forget_submitit() -> None:
    """Remove the variables that Submitit set for this process, so that trials get the user's environment.

    Submitit sets an empty list of GPUs for this process, which trials would take for the user's choice.
    """
    for name in [name for name in os.environ if name.startswith("SUBMITIT_")]:
        del os.environ[name]
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    restore_visible_devices()


def _run_array(sweep: SweepDir, array: ArrayJob, parallel: int) -> None:
    running: list[RunDir] = []
    stop_at_step = step_of(sweep, array)
    for name in assigned(sweep, array):
        run = open_trial(sweep, name)
        if run.result.exists() and read_status(run).state == "COMPLETED":
            continue
        running = _wait(running, parallel - 1)
        run.result.unlink(missing_ok=True)
        start_job(run, stop_at_step)
        running.append(run)
    _wait(running, 0)


def _wait(running: list[RunDir], most: int) -> list[RunDir]:
    """Wait until at most `most` runs are alive, and return these."""
    while len(alive := [run for run in running if _is_alive(run)]) > most:
        time.sleep(_LOOK_EVERY_S)
    return alive


def _is_alive(run: RunDir) -> bool:
    last = read_jobs(run)[-1]
    return isinstance(last, Job) and is_alive(last)

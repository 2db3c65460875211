"""Run the trial of an element of a sweep's job array: create its run directory, then run it as any other run.

Config and plan of a trial were made when the sweep was submitted.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from launcher.node.entry import run_node
from launcher.node.rungs import assigned, step_of
from launcher.records.jobs import latest_name, record_intent
from launcher.records.plans import write_plan
from launcher.records.points import Point
from launcher.records.runs import as_yaml, stage_run
from launcher.records.sweeps import SweepDir
from slurm.environment import TaskPlace, job_name_of, task_place
from train.journal.events import Submitted
from train.rundir import RunDir, write_atomic, write_json

_FIRST_NODE_WITHIN_S = 300.0
_LOOK_EVERY_S = 0.5


def run_trial(root: str) -> None:
    """Run the trial of this element of a job array on this node, and exit with the exit code of the run."""
    sweep, place = SweepDir(Path(root)), task_place(os.environ)
    sweep.adopt_umask()
    name = trial_at(sweep, place)
    if name is None:
        print("no trial for this element of the array: fewer trials continue")  # noqa: T201 - the node's log
        sys.exit(0)
    run = open_trial(sweep, name)
    if place.node == 0:
        _begin(sweep, run, str(place.job_name))
    else:
        _wait_for_first_node(run, str(place.job_name))
    run_node(str(run.root))


def trial_at(sweep: SweepDir, place: TaskPlace) -> str | None:
    """Return the trial of an element of an array, or None if there is none."""
    key = str(place.job_name)
    array = next(array for array in sweep.arrays() if array.name == job_name_of(key))
    index = int(key.removeprefix(array.name).strip("[]"))
    trials = assigned(sweep, array)
    return trials[index] if index < len(trials) else None


def open_trial(sweep: SweepDir, name: str) -> RunDir:
    """Return the run directory of a trial, and create it atomically if it does not exist."""
    run = sweep.run(name)
    if run.root.exists():
        return run
    file = sweep.read()
    trial = next(trial for trial in file.trials if trial.name == name)
    document = file.document(trial)
    staged = stage_run(run.root, document["config"]["access"])
    write_atomic(staged.config, as_yaml(document["config"]))
    write_json(staged.deepspeed, document["plan"]["deepspeed"])
    write_atomic(staged.root / "overrides.txt", "".join(f"{line}\n" for line in _as_overrides(trial.point)))
    write_plan(staged, document["plan"])
    staged.code.symlink_to(Path("..") / sweep.code.name)
    try:
        staged.root.rename(run.root)
    except OSError:
        shutil.rmtree(staged.root)
        if not run.root.exists():
            raise
    return run


def _as_overrides(point: Point) -> list[str]:
    return [f"{key}={'null' if value is None else value}" for key, value in point.items()]


def _begin(sweep: SweepDir, run: RunDir, key: str) -> None:
    """Record the submission of a trial, as a submit does for a single run. Requeued elements skip this."""
    if latest_name(run) == key:
        return
    array = next(array for array in sweep.arrays() if array.name == job_name_of(key))
    run.ask_to_pause(step_of(sweep, array))
    run.stop_request.unlink(missing_ok=True)
    run.result.unlink(missing_ok=True)
    run.log(Submitted(executor="slurm", name=key))
    record_intent(run, "slurm", key)


def _wait_for_first_node(run: RunDir, key: str) -> None:
    deadline = time.monotonic() + _FIRST_NODE_WITHIN_S
    while latest_name(run) != key:
        if time.monotonic() > deadline:
            raise TimeoutError(f"node 0 did not start {run.root.name} within {_FIRST_NODE_WITHIN_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)

"""Submit trials of a sweep to Slurm as job arrays, or to one process on this machine."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.errors import Problem
from launcher.lifecycle.start import submit_once, visible_devices
from launcher.node.halving import setting_key, shrunk
from launcher.node.rungs import decisions
from launcher.node.trial import run_trial
from launcher.planning.plan import slurm_script
from launcher.planning.rules.slurm import asks_the_queue
from launcher.records.jobs import Executor, Job, local_job, next_name
from launcher.records.sweeps import ArrayJob, SweepDir
from launcher.sweep.local import run_slices
from launcher.sweep.plan import PlannedTrial, SweepPlan, by_shape
from slurm.client import SlurmError, largest_array, queue
from slurm.executor import LocalRequest, SlurmRequest, SubmissionError, submit_local
from train.records.base import now

Started = tuple[str, list[str]]
"""The id of a job, and the trials that it starts."""


def hand_over(
    sweep: SweepDir, plan: SweepPlan, chosen: Sequence[PlannedTrial]
) -> tuple[list[Started], Problem | None]:
    """Start the chosen trials.

    Returns:
        One job for each array, and the problem if Slurm did not accept all of them.
    """
    if not chosen:
        return [], None
    if plan.executor == "local":
        arrays = list(_rungs(sweep, plan, [trial.name for trial in chosen], "local"))
        return [(_start_local(sweep, plan, arrays), arrays[0].trials)], None
    done: list[Started] = []
    try:
        largest = largest_array()
    except SlurmError as error:
        return done, _refused(len(chosen), error)
    for array, trial in _arrays(sweep, plan, chosen, largest):
        try:
            done.append((_start_array(sweep, plan, array, trial, done), array.trials))
        except (SubmissionError, SlurmError) as error:
            sweep.record_lost(array.name, str(error))
            return done, _refused(len(array.trials), error)
    return done, None


def _refused(trials: int, error: Exception) -> Problem:
    return Problem(
        code="slurm.refused",
        field="slurm",
        message=f"Slurm did not accept {trials} of the trials: {error}",
        fix="submit the sweep again to start the missing trials",
    )


def _arrays(
    sweep: SweepDir, plan: SweepPlan, chosen: Sequence[PlannedTrial], largest: int
) -> Iterator[tuple[ArrayJob, PlannedTrial]]:
    """Yield arrays of at most `largest` trials, each with one trial that has the resources of all."""
    for trials in by_shape(chosen):
        for start in range(0, len(trials), largest):
            part = trials[start : start + largest]
            for array in _rungs(sweep, plan, [trial.name for trial in part], "slurm"):
                yield array, part[0]


def _rungs(sweep: SweepDir, plan: SweepPlan, trials: list[str], executor: Executor) -> Iterator[ArrayJob]:
    """Record and yield one array or, with halving, one for each rung and one for the end."""
    halving = None if decisions(sweep) else plan.settings.halving
    settings = len({setting_key(trial.point) for trial in plan.trials if trial.name in trials})
    places, chain = len(trials), None
    for rung in range(len(halving.rungs) + 1) if halving else (None,):
        if rung and halving:
            places, settings = shrunk(places, settings, halving.keep)
        name = next_name(sweep.root.name, str(sweep.root), len(sweep.arrays()))
        chain = chain or (name if halving else None)
        array = ArrayJob(
            time=now(),
            executor=executor,
            name=name,
            trials=trials,
            rung=rung,
            chain=chain,
            places=places,
        )
        sweep.record_array(array)
        yield array


def _start_local(sweep: SweepDir, plan: SweepPlan, arrays: Sequence[ArrayJob]) -> str:
    first = plan.trials[0].config
    job_id = submit_local(
        LocalRequest(
            folder=sweep.submitit,
            # Each trial also has its own time limit.
            time_min=first.slurm.time_min * sum(array.places for array in arrays),
            signal_delay_s=30,
            # The process that starts the trials needs no GPU; `run_slices` restores the GPUs for the trials.
            gpus=0,
            environ={"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **visible_devices()},
        ),
        run_slices,
        str(sweep.root),
        [array.name for array in arrays],
        plan.settings.parallel or 1,
    )
    for array in arrays:
        sweep.record_job(local_job(job_id, array.name))
    return job_id


def _start_array(
    sweep: SweepDir, plan: SweepPlan, array: ArrayJob, trial: PlannedTrial, before: Sequence[Started]
) -> str:
    after = before[-1][0] if array.rung else None
    script = _script(sweep.root, plan, trial, name=array.name, places=array.places, after=after)
    request = SlurmRequest(folder=sweep.submitit, script=script, nodes=trial.plan.placement.nodes)
    job_id = submit_once(array.name, request, run_trial, str(sweep.root))
    sweep.record_job(Job(job_id=job_id, name=array.name))
    return job_id


def _script(
    root: Path, plan: SweepPlan, trial: PlannedTrial, *, name: str, places: int, after: str | None = None
) -> str:
    throttle = f"%{plan.settings.parallel}" if plan.settings.parallel else ""
    return slurm_script(
        trial.config.slurm,
        trial.plan.training,
        root,
        name=name,
        python=sys.executable,
        code=SweepDir(root).code,
        array=f"0-{places - 1}{throttle}",
        after=after,
    )


def ask_the_queue(plan: SweepPlan) -> Iterator[Problem]:
    """Let sbatch check one script for each kind of resources, without submitting it."""
    if plan.executor != "slurm":
        return
    if plan.settings.halving:
        yield from _fits_one_array(plan)
    for trials in by_shape(plan.trials):
        name = next_name(plan.root.name, str(plan.root), 0)
        yield from asks_the_queue(_script(plan.root, plan, trials[0], name=name, places=len(trials)))


def _fits_one_array(plan: SweepPlan) -> Iterator[Problem]:
    try:
        largest = largest_array()
    except SlurmError as error:
        yield _refused(len(plan.trials), error)
        return
    if len(plan.trials) > largest:
        yield Problem(
            code="sweep.halving",
            field="sweep.halving",
            message=f"{len(plan.trials)} trials do not fit into one job array (limit of the site: {largest}),"
            " and sweep.halving compares trials of one array",
            fix="run fewer trials, or set sweep.halving=null",
        )


def settle_silent(sweep: SweepDir) -> None:
    """Find the jobs of arrays whose submit command was killed; arrays that are not in the queue are lost."""
    known = sweep.array_jobs().keys() | sweep.lost()
    silent = {part.name: part for part in sweep.arrays() if part.name not in known}
    for record in queue() if any(part.executor == "slurm" for part in silent.values()) else ():
        if silent.pop(record.name, None):
            sweep.record_job(Job(job_id=record.job_id.partition("_")[0], name=record.name))
    for name in silent:
        sweep.record_lost(name, "the command that submitted it was killed")

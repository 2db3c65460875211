"""Plan all trials of a sweep, or report the problems of all of them at once."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from pydantic_core import to_jsonable_python

from launcher.compose.axes import Axis
from launcher.compose.sweep import ComposedSweep, TrialConfig
from launcher.config import RunConfig, SweepConfig
from launcher.errors import Problem
from launcher.lifecycle.changes import leaves
from launcher.planning.facts.machine import Observer
from launcher.planning.plan import RunPlan
from launcher.planning.preflight import examine_config
from launcher.records.points import REPEATS, Point, label
from launcher.records.sweeps import Document
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrial:
    """One trial with its config and plan."""

    point: Point
    config: RunConfig
    plan: RunPlan

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.plan.run

    @property
    def document(self) -> Document:
        """Config and plan as plain values, from which the run directory is created."""
        document: Document = to_jsonable_python({"config": self.config, "plan": self.plan})
        return document

    @property
    def shape(self) -> str:
        """Requested resources as text. Trials with the same resources share a job array."""
        return f"{self.plan.placement}{self.config.slurm.model_dump_json()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """All decisions made before a sweep is created or extended."""

    root: Path
    settings: SweepConfig
    axes: tuple[Axis, ...]
    overrides: tuple[str, ...]
    trials: tuple[PlannedTrial, ...]

    @property
    def executor(self) -> str:
        """Executor of the trials, `local` or `slurm`."""
        return self.trials[0].config.slurm.executor


def by_shape(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """Group trials by their requested resources."""
    groups: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        groups.setdefault(trial.shape, []).append(trial)
    return list(groups.values())


def plan_sweep(composed: ComposedSweep) -> tuple[SweepPlan | None, list[Problem]]:
    """Plan every trial of a sweep.

    Returns:
        The plan (None if a trial cannot be planned), and all problems, each once with its number of trials.
    """
    configs = [trial.config for trial in composed.trials]
    root = Path(configs[0].runs_dir) / sweep_name(composed.trials, composed.axes)
    observer = Observer()
    found: list[Problem] = []
    planned = []
    for trial in composed.trials:
        facts, seen = observer.gather(trial.config, root)
        plan, problems = examine_config(trial.config, facts, seen)
        found += problems
        if plan:
            planned.append(_as_trial(trial, plan, root.name))
    counted = _counted(found, len(configs))
    if len(planned) < len(configs):
        return None, counted
    sweep = SweepPlan(
        root=root,
        settings=composed.settings,
        axes=composed.axes,
        overrides=composed.overrides,
        trials=tuple(planned),
    )
    return sweep, [*counted, *_same_trials(sweep), *_together(sweep), *_halving(sweep)]


def sweep_name(trials: Sequence[TrialConfig], axes: Sequence[Axis]) -> str:
    """Return the name of the sweep directory, with a hash of the varied keys and of all fixed values.

    Adding values, seeds or folds of the same keys extends the same sweep. Any other change makes a new one.
    """
    varied = [axis.key for axis in axes if axis.key not in REPEATS]
    flat = [{key: json.dumps(value) for key, value in leaves(trial.config.trained)} for trial in trials]
    common = reduce(lambda kept, other: {k: v for k, v in kept.items() if other.get(k) == v}, flat)
    fixed = {
        key: value
        for key, value in common.items()
        if not any(key == name or key.startswith(f"{name}.") for name in (*varied, *REPEATS))
    }
    key = hashlib.sha256(json.dumps([sorted(varied), sorted(fixed.items())]).encode()).hexdigest()
    name = json.loads(common["name"]) if "name" in common else "runs"
    return f"{name}-sweep-{key[:8]}"


def _as_trial(trial: TrialConfig, plan: RunPlan, group: str) -> PlannedTrial:
    training = plan.training.model_copy(update={"group": group, "label": label(trial.point)})
    # The script belongs to the job array that this trial will be an element of.
    return PlannedTrial(
        point=trial.point, config=trial.config, plan=replace(plan, training=training, sbatch=None)
    )


def _counted(problems: Sequence[Problem], trials: int) -> list[Problem]:
    counts = Counter(problems)
    return [
        replace(problem, message=f"{problem.message} (in {count} of {trials} trials)")
        if count < trials
        else problem
        for problem, count in counts.items()
    ]


def _same_trials(sweep: SweepPlan) -> Iterator[Problem]:
    counts = Counter(trial.name for trial in sweep.trials)
    name, times = counts.most_common(1)[0]
    if times == 1:
        return
    points = [trial.point for trial in sweep.trials if trial.name == name]
    keys = [key for key in points[0] if len({json.dumps(point[key]) for point in points}) > 1]
    yield Problem(
        code="sweep.same",
        field=", ".join(keys) or "sweep",
        message=f"{', '.join(keys)} does not affect the training: {times} trials would be the same run",
        fix="vary the seed, or keys of model, data, train, optim or zero",
    )


def _together(sweep: SweepPlan) -> Iterator[Problem]:
    executors = {trial.config.slurm.executor for trial in sweep.trials}
    if len(executors) > 1:
        yield Problem(
            code="sweep.executor",
            field="slurm.executor",
            message="some trials have slurm.executor=local and some slurm.executor=slurm",
            fix="set slurm=local or slurm=cluster for all trials",
        )
    device = sweep.trials[0].plan.placement.device
    if sweep.executor == "local" and (sweep.settings.parallel or 1) > 1 and device == "cuda":
        yield Problem(
            code="sweep.parallel",
            field="sweep.parallel",
            message=f"sweep.parallel={sweep.settings.parallel} needs Slurm: local trials share the GPUs and"
            " run one after another",
            fix="set sweep.parallel=null, or slurm=cluster to submit to Slurm",
        )
    disks = [
        trial.plan.disk
        for trial in sweep.trials
        if trial.plan.disk and not RunDir(sweep.root / trial.name).result.exists()
    ]
    needed_gb = sum(disk.total_gb for disk in disks)
    if disks and needed_gb > disks[0].free_gb and all(disk.total_gb <= disk.free_gb for disk in disks):
        yield Problem(
            code="disk.sweep",
            field="runs_dir",
            message=f"all trials need about {needed_gb:.1f} GB, but only {disks[0].free_gb:.1f} GB are free",
            fix="set runs_dir to a larger file system, lower checkpoint.keep_last, or run fewer trials",
        )


def _halving(sweep: SweepPlan) -> Iterator[Problem]:
    halving = sweep.settings.halving
    if halving is None:
        return
    lengths = {trial.plan.time.total_steps for trial in sweep.trials}
    total = min((length for length in lengths if length is not None), default=None)
    if list(halving.rungs) != sorted(set(halving.rungs)):
        rising = sorted(set(halving.rungs))
        yield _halving_problem(
            f"invalid sweep.halving.rungs={halving.rungs}: steps must increase",
            f"set sweep.halving.rungs=[{','.join(map(str, rising))}]",
        )
    if total is None or None in lengths:
        yield _halving_problem(
            "sweep.halving needs runs with a known number of steps",
            "set train.max_steps, or set train.epochs with data.packing=false and data.overlong=truncate",
        )
    elif halving.rungs[-1] >= total:
        yield _halving_problem(
            f"the last rung, step {halving.rungs[-1]}, is not before the last step, {total}",
            f"set the last rung to {total - 1} or less",
        )
    if sweep.executor == "slurm" and len(by_shape(sweep.trials)) > 1:
        yield _halving_problem(
            "sweep.halving compares trials of one job array, but the trials need different resources",
            "submit a separate sweep for each kind of resources",
        )


def _halving_problem(message: str, fix: str) -> Problem:
    return Problem(code="sweep.halving", field="sweep.halving.rungs", message=message, fix=fix)

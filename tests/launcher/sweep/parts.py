"""Sweeps of the smoke config: planned without looking at the machine, and made without freezing sources."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config import SweepConfig
from launcher.planning.plan import make_plan
from launcher.records.points import Point
from launcher.records.sweeps import SweepDir, SweepFile, trial_of
from launcher.status.runs import RunStatus
from launcher.status.state import State
from launcher.sweep.plan import PlannedTrial, SweepPlan
from tests.launcher.planning.conftest import config_with, made_facts

SLURM = {"slurm.executor": "slurm", "hardware.device": "cpu", "hardware.gpus_per_node": 2}


def planned_trial(point: Point, **changes: Any) -> PlannedTrial:
    config = config_with({**changes, **point})
    return PlannedTrial(point=point, config=config, plan=make_plan(config, made_facts()))


def sweep_plan(
    root: Path, points: Sequence[Point], changes: dict[str, Any] | None = None, **settings: Any
) -> SweepPlan:
    return SweepPlan(
        root=root,
        settings=SweepConfig.model_validate(settings),
        axes=(),
        overrides=("seed=0,1",),
        trials=tuple(planned_trial(point, **(changes or {})) for point in points),
    )


def made_sweep(plan: SweepPlan) -> SweepDir:
    """The directory of a planned sweep, none of whose trials was started."""
    sweep = SweepDir(plan.root)
    plan.root.mkdir(parents=True)
    sweep.jobs.touch()
    base = plan.trials[0].document
    sweep.write(
        SweepFile(
            sweep=plan.root.name,
            created="2026-01-01T00:00:00+00:00",
            overrides=list(plan.overrides),
            settings=plan.settings.model_dump(mode="json"),
            access="private",
            code="",
            base=base,
            trials=[trial_of(trial.name, trial.point, base, trial.document) for trial in plan.trials],
        )
    )
    return sweep


def status_of(name: str, state: State, attempt: int = 1) -> RunStatus:
    return RunStatus(
        run=name,
        dir="",
        state=state,
        step=0,
        total_steps=None,
        attempt=attempt,
        restarts=0,
        job_id="7",
        why="",
    )

"""A planned sweep: its name, which trials share resources, and what keeps trials from being one sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.compose.axes import Axis
from launcher.compose.sweep import ComposedSweep, TrialConfig
from launcher.config import SweepConfig
from launcher.errors import Problem
from launcher.planning.plan import make_plan
from launcher.records.points import Point
from launcher.sweep import plan as module
from launcher.sweep.plan import SweepPlan, by_shape, plan_sweep, sweep_name
from tests.launcher.planning.conftest import config_with, found, made_facts, model_files
from tests.launcher.sweep.parts import SLURM, planned_trial
from train.result import Failed, write_result
from train.rundir import RunDir

MODEL = model_files(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=1000
)
RATES: list[Point] = [{"optim.lr": 1e-3}, {"optim.lr": 2e-3}]


class Machine:
    """Stands for the observer: facts of a machine, and problems of chosen points."""

    def __init__(self, root: Path) -> None:
        self.facts: dict[str, Any] = {"runs_place": root}
        self.problems: list[Problem] = []

    def gather(self, config: Any, parent: Path | None = None) -> Any:
        return made_facts(**self.facts), list(self.problems)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(module, "Observer", lambda: machine)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return machine


def composed(
    points: Sequence[Point], changes: dict[str, Any] | None = None, **settings: Any
) -> ComposedSweep:
    keys = dict.fromkeys(key for point in points for key in point)
    return ComposedSweep(
        settings=SweepConfig.model_validate(settings),
        axes=tuple(Axis(key, is_group=False) for key in keys),
        trials=tuple(TrialConfig(point, config_with({**(changes or {}), **point})) for point in points),
        overrides=(),
    )


def name_of(points: Sequence[Point], **changes: Any) -> str:
    sweep = composed(points, changes)
    return sweep_name(sweep.trials, sweep.axes)


def test_more_values_seeds_or_folds_are_the_same_sweep():
    name = name_of(RATES)
    assert name.startswith("smoke-sweep-")
    assert name_of([*RATES, {"optim.lr": 3e-3}]) == name
    assert name_of(RATES[:1]) == name
    assert name_of(RATES, **{"slurm.time_min": 7, "tracking.wandb": "offline"}) == name
    seeds = [{**point, "seed": seed} for point in RATES for seed in (0, 1)]
    assert name_of(seeds) == name_of(seeds[:2]) == name


@pytest.mark.parametrize("changes", [{"train.max_steps": 9}, {"data.max_length": 64}, {"cv.folds": 3}])
def test_whatever_else_is_trained_makes_another_sweep(changes: dict[str, Any]):
    assert name_of(RATES, **changes) != name_of(RATES)


def test_other_keys_make_another_sweep():
    assert name_of([{"optim.lr": 1e-3, "optim.warmup_steps": 0}]) != name_of(RATES)


def test_trials_of_one_shape_are_together():
    points = [
        {"optim.lr": rate, "hardware.gpus_per_node": ranks} for rate in (1e-3, 2e-3) for ranks in (1, 2)
    ]
    trials = [planned_trial(point) for point in points]
    assert [[trial.point for trial in group] for group in by_shape(trials)] == [
        [points[0], points[2]],
        [points[1], points[3]],
    ]
    asked = [planned_trial({"slurm.time_min": minutes}) for minutes in (5, 6)]
    assert len(by_shape(asked)) == 2


def planned(machine: Machine, *arguments: Any, **settings: Any) -> SweepPlan:
    plan, problems = plan_sweep(composed(*arguments, **settings))
    assert found(problems) == []
    assert plan is not None
    return plan


def test_trials_are_planned_below_the_sweep(machine: Machine):
    plan = planned(machine, RATES, {"runs_dir": "/runs"})
    assert plan.root == Path("/runs") / name_of(RATES)
    assert [trial.point for trial in plan.trials] == RATES
    assert {trial.plan.training.group for trial in plan.trials} == {plan.root.name}
    assert [trial.plan.training.label for trial in plan.trials] == ["lr=0.001", "lr=0.002"]
    assert [trial.plan.run for trial in plan.trials] == [trial.config.run_name for trial in plan.trials]
    assert plan.executor == "local"


def test_a_script_is_of_the_array_and_of_no_trial(machine: Machine):
    plan = planned(machine, RATES, SLURM)
    assert plan.executor == "slurm"
    assert [trial.plan.sbatch for trial in plan.trials] == [None, None]


@pytest.mark.parametrize(
    ("points", "changes", "settings", "expected"),
    [
        (
            [{"optim.warmup_steps": 99}, {"optim.warmup_steps": 2}],
            {},
            {},
            [("optim.warmup", "optim.warmup_steps")],
        ),
        ([{"slurm.time_min": 60}, {"slurm.time_min": 90}], {}, {}, [("sweep.same", "slurm.time_min")]),
        (RATES, {"hardware.device": "cuda"}, {"parallel": 2}, [("sweep.parallel", "sweep.parallel")]),
        (RATES, {"hardware.device": "cuda"}, {"parallel": 1}, []),
        (RATES, {"hardware.device": "cpu"}, {"parallel": 2}, []),
        (RATES, {**SLURM, "hardware.device": "cuda"}, {"parallel": 2}, []),
    ],
)
def test_what_is_wrong_with_a_sweep(
    machine: Machine,
    points: list[Point],
    changes: dict[str, Any],
    settings: dict[str, Any],
    expected: list[tuple[str, str]],
):
    machine.facts["visible_gpus"] = 2
    plan, problems = plan_sweep(composed(points, changes, **settings))
    assert plan is not None
    assert found(problems) == expected


def test_one_executor_runs_all_trials(machine: Machine):
    executors: list[Point] = [
        {"slurm.executor": name, "seed": n} for n, name in enumerate(("local", "slurm"))
    ]
    _, problems = plan_sweep(composed(executors, {**SLURM, "slurm.executor": "local"}))
    assert found(problems) == [("sweep.executor", "slurm.executor")]


def test_a_problem_is_told_once_with_how_many_trials_have_it(machine: Machine):
    points: list[Point] = [{"optim.warmup_steps": 99, "seed": seed} for seed in range(2)]
    _, problems = plan_sweep(composed([*points, {"optim.warmup_steps": 2, "seed": 0}]))
    [problem] = problems
    assert "2 of 3" in problem.message
    _, problems = plan_sweep(composed(points))
    [problem] = problems
    assert "of 2" not in problem.message


def test_a_trial_without_a_plan_leaves_none_for_the_sweep(machine: Machine):
    plan, problems = plan_sweep(composed([{"train.global_batch_size": size} for size in (8, 7)]))
    assert plan is None
    assert found(problems) == [("batch.divide", "train.global_batch_size")]


def test_the_disk_holds_all_trials_that_are_not_finished(machine: Machine, tmp_path: Path):
    runs = {"runs_dir": str(tmp_path), "data.format": "text", "eval.num_samples": 0}
    machine.facts["model"] = MODEL
    disk = make_plan(config_with({}), made_facts(model=MODEL)).disk
    assert disk is not None
    machine.facts["disk_free_gb"] = 2.0 * disk.total_gb
    plan = planned(machine, RATES, runs)
    machine.facts["disk_free_gb"] = 1.9 * disk.total_gb
    assert found(plan_sweep(composed(RATES, runs))[1]) == [("disk.sweep", "runs_dir")]
    machine.facts["disk_free_gb"] = 0.9 * disk.total_gb
    assert found(plan_sweep(composed(RATES, runs))[1]) == [("disk.fit", "runs_dir")]
    machine.facts["disk_free_gb"] = 1.9 * disk.total_gb
    run = RunDir(plan.root / plan.trials[0].name)
    run.root.mkdir(parents=True)
    write_result(run, Failed(reason="it is over"))
    planned(machine, RATES, runs)


@pytest.mark.parametrize(
    ("rungs", "points", "changes", "problems"),
    [
        ([2, 4], RATES, {}, 0),
        ([4, 2], RATES, {}, 1),
        ([2, 2], RATES, {}, 1),
        ([9], RATES, {}, 0),
        ([10], RATES, {}, 1),
        ([9], [{"train.max_steps": steps} for steps in (9, 10)], {}, 1),
        ([2], RATES, {"train.max_steps": None, "train.max_tokens": 999}, 1),
        ([2], [{"zero.stage": 1, "slurm.time_min": 5}, {"zero.stage": 2, "slurm.time_min": 6}], {}, 0),
        ([2], [{"zero.stage": 1, "slurm.time_min": 5}, {"zero.stage": 2, "slurm.time_min": 6}], SLURM, 1),
    ],
)
def test_rungs_can_be_compared(
    machine: Machine, rungs: list[int], points: list[Point], changes: dict[str, Any], problems: int
):
    sweep = composed(points, {"train.max_steps": 10, **changes}, halving={"rungs": rungs})
    assert found(plan_sweep(sweep)[1]) == [("sweep.halving", "sweep.halving.rungs")] * problems

"""Many configs from one composition: each is what Hydra would compose for its point."""

from pathlib import Path

import pytest

from launcher.compose.run import compose_run
from launcher.compose.sweep import compose_sweep
from launcher.errors import Refused


def assert_each_equals_hydras(*overrides: str, conf: tuple[Path, ...] = ()) -> int:
    fixed = [
        text for text in overrides if "," not in text and "(" not in text and not text.startswith("sweep")
    ]
    composed = compose_sweep(overrides, conf)
    for trial in composed.trials:
        alone = compose_run([*fixed, *(f"{key}={_text(value)}" for key, value in trial.point.items())], conf)
        assert trial.config == alone.config, trial.point
    return len(composed.trials)


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_keys_and_groups_of_all_kinds():
    assert (
        assert_each_equals_hydras(
            "experiment=smoke",
            "optim.lr=1e-4,1e-3",
            "seed=range(0,2)",
            "zero=glob(stage*,exclude=*offload)",
            "model.activation_checkpointing=none,selective",
            "train.max_steps=choice(3,4)",
            "train.epochs=1",
        )
        == 2 * 2 * 4 * 2 * 2
    )


def test_experiments_as_an_axis():
    assert assert_each_equals_hydras("experiment=smoke,demo", "seed=1,2") == 4


def test_interpolations_follow_the_swept_key(tmp_path: Path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "linked.yaml").write_text("lr: 1e-3\nweight_decay: ${seed}\n")
    composed = compose_sweep(["experiment=smoke", "optim=linked", "seed=1,2"], [tmp_path])
    assert [trial.config.optim.weight_decay for trial in composed.trials] == [1, 2]
    assert assert_each_equals_hydras("experiment=smoke", "optim=linked", "seed=1,2", conf=(tmp_path,)) == 2


def test_a_sweep_file_names_axes_and_the_command_line_replaces_them(tmp_path: Path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "axes:\n  optim.lr: [1.0e-4, 1.0e-3]\n  seed: range(0,3)\n  zero: stage1,stage2\n"
    )
    composed = compose_sweep(["experiment=smoke", "sweep=mine", "seed=5,6"], [tmp_path])
    assert len(composed.trials) == 8
    assert {trial.point["seed"] for trial in composed.trials} == {5, 6}
    assert {trial.config.zero.stage for trial in composed.trials} == {1, 2}


def test_folds_become_an_axis_and_a_refit_one_more_trial():
    composed = compose_sweep(["experiment=smoke", "cv.folds=3", "sweep.refit=true", "optim.lr=1e-4,1e-3"])
    assert [trial.config.cv.fold for trial in composed.trials] == [0, 1, 2, None] * 2


def test_all_problems_of_all_trials_come_at_once_and_once():
    with pytest.raises(Refused) as refusal:
        compose_sweep(
            [
                "experiment=smoke",
                "seed=0,-1",
                "optim.lr=0,1",
                "model=tinny,tiny",
                "optm.lr=3",
                "train.bad_steps=x",
            ]
        )
    fields = [problem.field for problem in refusal.value.problems]
    assert "optm.lr" in fields
    assert "model" in fields
    with pytest.raises(Refused) as refusal:
        compose_sweep(["experiment=smoke", "seed=0,-1", "optim.lr=0,1"])
    assert sorted(problem.field for problem in refusal.value.problems) == ["optim.lr", "seed"]


def test_an_unknown_sweep_setting_names_the_nearest():
    with pytest.raises(Refused) as refusal:
        compose_sweep(["experiment=smoke", "seed=0,1", "sweep.samplr=random"])
    assert "sweep.sampler" in refusal.value.problems[0].fix

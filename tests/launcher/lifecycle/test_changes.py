"""What may differ when a run goes on: free, with a notice, refused."""

from pathlib import Path

import pytest

from launcher.compose.run import compose_change, compose_run
from launcher.errors import Refused
from launcher.lifecycle.changes import changes_between, refusals, version_changes
from launcher.lifecycle.snapshot import can_start, freeze_again

OLD = compose_run(["experiment=smoke"])


def changed(*overrides: str) -> dict[str, str]:
    new = compose_change(OLD.yaml, overrides)
    return {change.key: change.kind for change in changes_between(OLD.config, new.config)}


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("train.log_every_steps=5", "free"),
        ("tracking.wandb=offline", "free"),
        ("checkpoint.keep_last=5", "free"),
        ("slurm.time_min=10", "free"),
        ("hardware.node_mem_gb=64", "free"),
        ("train.profile_steps=[3,4]", "free"),
        ("hardware.gpus_per_node=4", "notice"),
        ("model.activation_checkpointing=selective", "notice"),
        ("model.compile=true", "notice"),
        ("zero.stage=3", "notice"),
        ("train.max_steps=99", "notice"),
        ("eval.every_steps=7", "notice"),
        ("eval.patience=3", "notice"),
        ("seed=1", "refused"),
        ("data.max_length=128", "refused"),
        ("cv.folds=3", "refused"),
        ("cv.group=topic", "refused"),
        ("optim.lr=1e-5", "refused"),
        ("train.global_batch_size=16", "refused"),
        ("train.precision=fp32", "refused"),
        ("model.source=hub:x/y", "refused"),
        ("name=other", "never"),
    ],
)
def test_each_key_has_its_class(override: str, kind: str):
    assert changed(override) == {override.partition("=")[0]: kind}


def test_a_group_replaces_its_section_and_leaves_the_others():
    assert changed("zero=stage3-offload") == {
        "zero.stage": "notice",
        "zero.offload_optimizer": "notice",
        "zero.offload_params": "notice",
    }


def test_another_minor_of_what_computes_is_refused():
    before = {"torch": "2.12.1", "deepspeed": "0.19.7", "transformers": "5.23.0", "numpy": "1.0"}
    now = {"torch": "2.13.0", "deepspeed": "0.19.8", "transformers": "5.23.0", "numpy": "2.0"}
    changes = version_changes(before, now)
    assert {change.key: change.kind for change in changes} == {
        "versions.torch": "refused",
        "versions.deepspeed": "notice",
    }
    [problem] = refusals(changes, [])
    assert "--allow-change versions.torch" in problem.fix
    assert refusals(changes, ["versions.torch"]) == []


def test_insisting_is_by_name():
    new = compose_change(OLD.yaml, ["optim.lr=1e-5", "seed=4"])
    changes = changes_between(OLD.config, new.config)
    assert [problem.field for problem in refusals(changes, ["seed"])] == ["optim.lr"]
    assert refusals(changes, ["seed", "optim.lr"]) == []
    assert "optim.lr: 0.001 -> 1e-05" in [change.text for change in changes]


def test_an_experiment_cannot_be_changed_and_unknown_keys_are_named():
    with pytest.raises(Refused, match="sets keys in every section"):
        compose_change(OLD.yaml, ["experiment=demo"])
    with pytest.raises(Refused, match=r"optim\.rl"):
        compose_change(OLD.yaml, ["optim.rl=1"])


def test_sources_frozen_in_an_older_layout_are_frozen_again(tmp_path: Path):
    code = tmp_path / "code"
    (code / "launcher").mkdir(parents=True)
    (code / "launcher" / "node.py").touch()
    assert not can_start(code)
    freeze_again(code)
    assert can_start(code)
    assert not (code / "launcher" / "node.py").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]

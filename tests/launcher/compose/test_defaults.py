"""The config classes are the only source of defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import slurm.config
import train.config
from launcher.compose.defaults import defaults_of, section_of
from launcher.compose.roots import packaged
from launcher.compose.run import compose_change, compose_run
from launcher.compose.sweep import compose_sweep
from launcher.config import CommandConfig

ABOUT_THE_OPTION = {
    "runs_dir": "conf/config.yaml: depends on the environment variable SHARDLINE_RUNS",
    "model.source": "model=tiny: required",
    "model.init": "model=tiny: this model has no pretrained weights",
    "data.train": "data=helpdesk: required",
    "data.validation": "data=helpdesk: a file of this data set",
    "data.test": "data=helpdesk: a file of this data set",
    "data.format": "data=helpdesk: required",
    "data.max_length": "data=helpdesk: the documents of this data set are short",
}
"""Keys whose composed value differs from the default of the class, with the reason."""
NAMED_BY_THE_OPTION = {"zero.stage", "slurm.executor", "tracking.wandb"}
"""Keys that a default option sets to the default of the class, because its name promises this value."""


def leaves(section: type[BaseModel], values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = section_of(section.model_fields[name].annotation)
        if inner and isinstance(value, dict):
            found |= leaves(inner, value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def class_defaults() -> dict[str, Any]:
    return leaves(CommandConfig, defaults_of(CommandConfig))


def test_a_run_without_overrides_has_the_defaults_of_the_classes():
    composed = leaves(CommandConfig, compose_run([]).config.model_dump())
    composed |= leaves(CommandConfig, {"sweep": compose_sweep(["seed=0,1"]).settings.model_dump()})
    missing = object()
    differ = {key for key, value in composed.items() if class_defaults().get(key, missing) != value}
    assert differ == ABOUT_THE_OPTION.keys()
    assert class_defaults().keys() <= composed.keys()


def test_default_options_repeat_no_default():
    conf = packaged("conf")
    for entry in yaml.safe_load((conf / "config.yaml").read_text())["defaults"]:
        for group, option in entry.items() if isinstance(entry, dict) else ():
            if (path := conf / group / f"{option}.yaml").exists() and group != "optional site":
                values = leaves(CommandConfig, {group: yaml.safe_load(path.read_text())})
                assert values.keys() <= ABOUT_THE_OPTION.keys() | NAMED_BY_THE_OPTION, path
                same = {key for key, value in values.items() if class_defaults().get(key) == value}
                assert same <= NAMED_BY_THE_OPTION, path


def test_both_section_classes_have_the_same_rules():
    assert slurm.config.Section.model_config == train.config.Section.model_config


def test_an_interpolation_may_refer_to_a_key_that_no_file_sets(tmp_path: Path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "linked.yaml").write_text(
        "beta1: ${optim.beta2}\nwarmup_steps: ${train.bad_steps}\n"
    )
    config = compose_run(["optim=linked"], [tmp_path]).config
    assert (config.optim.beta1, config.optim.warmup_steps) == (config.optim.beta2, config.train.bad_steps)


@pytest.mark.parametrize("group", ["optim=adamw", "kernels=auto", "checkpoint=default", "cv=default"])
def test_an_option_without_keys_restores_the_defaults(group: str):
    changed = ["optim.lr=1", "kernels.rope=torch", "checkpoint.keep_last=9", "cv.folds=4"]
    text = compose_run(changed).yaml
    section = group.partition("=")[0]
    restored = getattr(compose_change(text, [group]).config, section)
    assert restored == getattr(compose_run([]).config, section)

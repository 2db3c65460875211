"""Run directories made under former names of keys stay readable, and keep the names of their directories."""

from typing import Any

from launcher.compose.run import compose_change, compose_run
from launcher.lifecycle.changes import changes_between
from launcher.records.runs import as_yaml, load_config
from train.config import TrainingConfig
from train.config_names import (
    RENAMED_KEYS,
    RENAMED_VALUES,
    as_frozen,
    unknown_keys,
    with_current_names,
    with_former_names,
)
from train.rundir import RunDir

COMPOSED = compose_run(["experiment=smoke", "checkpoint.mtbf_min=33", "data.overlong=truncate"])
NOW: dict[str, Any] = COMPOSED.config.model_dump(mode="json")
THEN = with_former_names(NOW)


def leaf(config: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return config[section].get(name, "missing")


def test_the_former_names_are_translated_and_back():
    assert (leaf(THEN, "checkpoint.kill_every_min"), leaf(THEN, "checkpoint.mtbf_min")) == (33.0, "missing")
    assert leaf(THEN, "data.overlong") == "cut"
    assert with_current_names(THEN) == NOW
    assert with_current_names(NOW) == NOW
    assert [*THEN["checkpoint"]].index("kill_every_min") == [*NOW["checkpoint"]].index("mtbf_min")


def test_every_new_name_exists_and_no_former_one_does():
    for former, current in RENAMED_KEYS.items():
        assert leaf(NOW, former) == "missing"
        assert leaf(NOW, current) != "missing"
    for key in RENAMED_VALUES:
        assert leaf(NOW, key) != "missing"


def test_a_run_made_before_is_read_and_resumes_without_a_change(tmp_path: Any):
    run = RunDir(tmp_path)
    run.config.write_text(as_yaml(THEN))
    assert load_config(run) == COMPOSED.config
    again = compose_change(run.config.read_text(), ["train.max_steps=99"])
    assert [change.key for change in changes_between(COMPOSED.config, again.config)] == ["train.max_steps"]


def test_the_identity_of_a_trial_is_that_of_its_former_names():
    assert COMPOSED.config.trained["checkpoint"]["kill_every_min"] == 33.0
    assert COMPOSED.config.trained["data"]["overlong"] == "cut"


def test_frozen_code_is_given_what_it_knows():
    old = {section: dict(values) if isinstance(values, dict) else values for section, values in THEN.items()}
    del old["train"]["profile_steps"]
    written = as_frozen(NOW, old)
    assert "profile_steps" not in written["train"]
    assert written["checkpoint"]["kill_every_min"] == 33.0
    assert written["eval"] == THEN["eval"]
    assert as_frozen(NOW, NOW) == NOW
    assert unknown_keys(["train.profile_steps", "train.trace", "checkpoint.mtbf_min"], old) == [
        "train.profile_steps"
    ]
    assert TrainingConfig.model_validate(
        {name: with_current_names(written)[name] for name in TrainingConfig.model_fields}
    )

"""Rules about one run: each with a config and facts that pass, and some that do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.planning.estimate.memory import MemoryEstimate
from launcher.planning.plan import DiskPlan, Placement, RunPlan, TimePlan, make_plan
from launcher.planning.rules import run as rules
from tests.launcher.planning.conftest import config_with, found, made_facts, model_files
from train.job import DataFile

ROWS = {"train": DataFile(path="/data/train.jsonl", sha256="", rows=8)}
LABELLED = {"model.task": "classification", "data.format": "labelled"}


def test_some_limit_ends_a_run():
    unlimited = {"train.max_steps": None, "train.epochs": None, "train.max_tokens": None}
    for key, value in (("train.max_steps", 5), ("train.epochs", 0.5), ("train.max_tokens", 99)):
        assert found(rules.has_an_end(config_with({**unlimited, key: value}), made_facts())) == []
    assert found(rules.has_an_end(config_with(unlimited), made_facts())) == [("train.length", "train")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eval.num_samples": 0}, []),
        ({"eval.num_samples": 2, "data.test": "test.jsonl"}, []),
        ({"eval.num_samples": 2, "data.test": None, "cv.folds": 3, "cv.fold": 0}, []),
        ({"eval.num_samples": 2, "data.test": None}, ["eval.num_samples"]),
        ({"eval.num_samples": 2, "data.test": "test.jsonl", "data.format": "text"}, ["eval.num_samples"]),
        ({"eval.num_samples": 0, **LABELLED}, []),
        ({"eval.num_samples": 0, "data.format": "labelled"}, ["data.format"]),
        ({"eval.num_samples": 0, "model.task": "classification"}, ["data.format"]),
        ({"eval.num_samples": 2, "data.format": "labelled"}, ["data.format", "eval.num_samples"]),
    ],
)
def test_the_format_serves_the_task_and_its_questions(changes: dict[str, Any], expected: list[str]):
    problems = rules.format_serves_task(config_with(changes), made_facts())
    assert found(problems) == [(code, code) for code in expected]


@pytest.mark.parametrize(
    ("patience", "validation", "every", "fields"),
    [
        (None, None, None, []),
        (3, "validation.jsonl", 5, []),
        (3, None, 5, ["data.validation"]),
        (3, "validation.jsonl", None, ["eval.every_steps"]),
        (3, None, None, ["data.validation", "eval.every_steps"]),
    ],
)
def test_patience_counts_validations(
    patience: int | None, validation: str | None, every: int | None, fields: list[str]
):
    changes = {"eval.patience": patience, "data.validation": validation, "eval.every_steps": every}
    problems = rules.patience_has_validations(config_with(changes), made_facts())
    assert found(problems) == [("eval.patience", field) for field in fields]


@pytest.mark.parametrize(
    ("row_format", "file", "in_tokenizer", "refused"),
    [
        ("messages", None, True, False),
        ("messages", None, False, True),
        ("messages", "template.jinja", False, False),
        ("messages", "missing.jinja", True, True),
        ("text", None, False, False),
        ("text", "missing.jinja", False, True),
    ],
)
def test_chats_need_a_template(
    tmp_path: Path, row_format: str, file: str | None, in_tokenizer: bool, refused: bool
):
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    if in_tokenizer:
        (tmp_path / "chat_template.jinja").touch()
    template = str(tmp_path / file) if file else None
    config = config_with({"data.format": row_format, "model.chat_template": template})
    facts = made_facts(model=replace(model_files(), directory=tmp_path))
    expected = [("model.chat_template", "model.chat_template")] if refused else []
    assert found(rules.chat_template_exists(config, facts)) == expected


def test_an_unknown_model_is_not_blamed_for_its_chat_template():
    config = config_with({"data.format": "messages", "model.chat_template": None})
    assert found(rules.chat_template_exists(config, made_facts(model=None))) == []


@pytest.mark.parametrize(
    ("changes", "labels", "data", "refused"),
    [
        (LABELLED, ["a", "b"], ROWS, False),
        (LABELLED, ["a"], ROWS, True),
        (LABELLED, ["a"], {}, False),
        ({}, ["a"], ROWS, False),
    ],
)
def test_a_classifier_has_two_labels(
    changes: dict[str, Any], labels: list[str], data: dict[str, DataFile], refused: bool
):
    facts = made_facts(labels=labels, data=data)
    expected = [("data.label", "data.train")] if refused else []
    assert found(rules.has_two_labels(config_with({"eval.num_samples": 0, **changes}), facts)) == expected


def test_runs_are_made_in_a_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    config = config_with({})
    assert found(rules.runs_dir_is_writable(config, made_facts(runs_place=tmp_path))) == []
    for place in (tmp_path / "file", tmp_path / "none"):
        facts = made_facts(runs_place=place)
        assert found(rules.runs_dir_is_writable(config, facts)) == [("runs_dir.write", "runs_dir")]


def test_a_folder_without_write_access_holds_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    facts = made_facts(runs_place=tmp_path)
    assert found(rules.runs_dir_is_writable(config_with({}), facts)) == [("runs_dir.write", "runs_dir")]


@pytest.mark.parametrize(
    ("changes", "gpus", "expected"),
    [
        ({"zero.stage": 3, "zero.offload_params": True}, 0, []),
        ({"zero.stage": 2, "zero.offload_params": True}, 0, [("zero.offload", "zero.offload_params")]),
        ({"zero.stage": 1, "zero.offload_optimizer": True}, 0, []),
        ({"zero.stage": 0, "zero.offload_optimizer": True}, 0, [("zero.offload", "zero.offload_optimizer")]),
        (
            {"zero.stage": 0, "zero.offload_optimizer": True, "zero.offload_params": True},
            0,
            [("zero.offload", "zero.offload_params"), ("zero.offload", "zero.offload_optimizer")],
        ),
        ({"train.precision": "fp16"}, 1, []),
        ({"train.precision": "fp16"}, 0, [("train.precision", "train.precision")]),
        ({"train.precision": "fp16", "hardware.device": "cpu"}, 1, [("train.precision", "train.precision")]),
    ],
)
def test_offload_and_fp16_depend_on_stage_and_device(
    changes: dict[str, Any], gpus: int, expected: list[tuple[str, str]]
):
    config = config_with({"hardware.device": "auto", **changes})
    assert found(rules.zero_and_precision_agree(config, made_facts(visible_gpus=gpus))) == expected


@pytest.mark.parametrize(
    ("positions", "length", "refused"), [(64, 64, False), (64, 65, True), (None, 4096, False)]
)
def test_sequences_fit_the_positions(positions: int | None, length: int, refused: bool):
    model = model_files(max_position_embeddings=positions)
    expected = [("data.max_length", "data.max_length")] if refused else []
    config = config_with({"data.max_length": length})
    assert found(rules.sequence_fits_positions(config, made_facts(model=model))) == expected
    assert found(rules.sequence_fits_positions(config, made_facts(model=None))) == []


def planned(changes: dict[str, Any], steps: int | None) -> RunPlan:
    """The plan of a config, of so many steps."""
    plan = make_plan(config_with(changes), made_facts())
    return replace(plan, time=TimePlan(total_steps=steps, epochs=None, seconds=None, time_limit_s=60))


@pytest.mark.parametrize(("warm_up", "steps", "refused"), [(5, 5, False), (6, 5, True), (6, None, False)])
def test_warm_up_ends_before_the_run(warm_up: int, steps: int | None, refused: bool):
    changes = {"optim.warmup_steps": warm_up}
    expected = [("optim.warmup", "optim.warmup_steps")] if refused else []
    assert found(rules.warm_up_fits(config_with(changes), planned(changes, steps))) == expected


@pytest.mark.parametrize(
    ("profiled", "steps", "refused"),
    [
        (None, 5, False),
        ([5, 5], 5, False),
        ([5, 6], 5, True),
        ([3, 2], 5, True),
        ([3, 2], None, True),
        ([7, 8], None, False),
    ],
)
def test_profiled_steps_are_steps_of_the_run(profiled: list[int] | None, steps: int | None, refused: bool):
    changes = {"train.profile_steps": profiled}
    expected = [("train.profile_steps", "train.profile_steps")] if refused else []
    assert found(rules.profile_steps_fit(config_with(changes), planned(changes, steps))) == expected


MEMORY = MemoryEstimate(
    device="cuda",
    weights_gb=1.0,
    gradients_gb=1.0,
    optimizer_gb=4.0,
    activations_gb=2.0,
    logits_gb=1.0,
    runtime_gb=1.0,
    offloaded_gb=3.0,
    save_copy_gb=1.0,
)
"""10 GB on the GPU, 4 GB on the host."""
GPUS = Placement(device="cuda", nodes=1, ranks_per_node=2)
FITS = {"memory": MEMORY, "memory_limit_gb": 10.0, "placement": GPUS}


@pytest.mark.parametrize(
    ("plan", "host_gb", "expected"),
    [
        (FITS, 8.0, []),
        ({**FITS, "memory_limit_gb": 9.9}, 8.0, [("memory.fit", "hardware")]),
        ({**FITS, "memory_limit_gb": None}, 8.0, []),
        (FITS, 7.9, [("memory.host", "hardware.node_mem_gb")]),
        (FITS, None, []),
        (
            {
                **FITS,
                "memory": replace(MEMORY, device="cpu"),
                "memory_limit_gb": 14.0,
                "placement": replace(GPUS, device="cpu"),
            },
            7.9,
            [],
        ),
        ({"disk": DiskPlan(checkpoint_gb=1.0, total_gb=3.0, free_gb=3.0)}, None, []),
        ({"disk": DiskPlan(checkpoint_gb=1.0, total_gb=3.1, free_gb=3.0)}, None, [("disk.fit", "runs_dir")]),
        ({}, None, []),
    ],
)
def test_memory_and_disk_suffice(
    plan: dict[str, Any], host_gb: float | None, expected: list[tuple[str, str]]
):
    config = config_with({"hardware.node_mem_gb": host_gb})
    assert found(rules.resources_fit(config, replace(planned({}, 5), **plan))) == expected

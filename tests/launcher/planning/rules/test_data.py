"""Rules for packing, grouping by length and splitting."""

from pathlib import Path
from typing import Any

import pytest

from launcher.config import RunConfig
from launcher.planning.rules.data import packs_exactly, splits_text_only
from tests.launcher.planning.conftest import config_with, made_facts
from train.model.sources import ModelFiles


def config_of(task: str, **data: object) -> RunConfig:
    return config_with({"model.task": task, **{f"data.{key}": value for key, value in data.items()}})


def model_of(model_type: str | None) -> ModelFiles | None:
    return ModelFiles(Path("/model"), {"model_type": model_type}) if model_type else None


@pytest.mark.parametrize(
    ("task", "data", "model_type", "found"),
    [
        ("causal", {}, "cohere", {}),
        ("causal", {"group_by_length": True}, "cohere", {}),
        ("causal", {"packing": True}, "llama", {}),
        ("causal", {"packing": True}, None, {}),
        ("causal", {"packing": True}, "cohere", {"data.packing": "does not support model type 'cohere'"}),
        (
            "causal",
            {"packing": True},
            "unheard_of",
            {"data.packing": "does not support model type 'unheard_of'"},
        ),
        ("classification", {"packing": True}, "bert", {"data.packing": "one label per sequence"}),
        (
            "causal",
            {"packing": True, "group_by_length": True},
            "llama",
            {"data.group_by_length": "no effect with data.packing=true"},
        ),
        (
            "classification",
            {"packing": True, "group_by_length": True},
            "bert",
            {"data.packing": "one label", "data.group_by_length": "no effect with data.packing=true"},
        ),
    ],
)
def test_packing(task: str, data: dict[str, Any], model_type: str | None, found: dict[str, str]):
    problems = list(packs_exactly(config_of(task, **data), made_facts(model=model_of(model_type))))
    assert [problem.code for problem in problems] == list(found)
    for problem, part in zip(problems, found.values(), strict=True):
        assert part in problem.message
        assert problem.field == problem.code
        assert problem.fix


@pytest.mark.parametrize(
    ("task", "overlong", "codes"),
    [
        ("causal", "split", []),
        ("causal", "drop", []),
        ("classification", "drop", []),
        ("classification", "split", ["data.overlong"]),
    ],
)
def test_labelled_rows_are_not_split(task: str, overlong: str, codes: list[str]):
    problems = splits_text_only(config_of(task, overlong=overlong), made_facts())
    assert [problem.code for problem in problems] == codes

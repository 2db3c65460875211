"""How the draw of the folds divides the training rows between roles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.planning.facts.folds import look_at_folds
from tests.conftest import conversation
from train.data.rows import file_sha256
from train.job import DataFile


@pytest.fixture(scope="module")
def smoke() -> RunConfig:
    return compose_run(["experiment=smoke"]).config


def folded(config: RunConfig, **cv: Any) -> RunConfig:
    return config.model_copy(update={"cv": config.cv.model_copy(update=cv)})


@pytest.fixture
def train(write_rows: Callable[..., Path]) -> DataFile:
    path = write_rows("rows.jsonl", [conversation(f"question {n}", "a") for n in range(10)])
    return DataFile(path=str(path), sha256=file_sha256(path), rows=10)


def test_without_folds_or_without_a_sound_training_file_nothing_is_drawn(smoke: RunConfig, train: DataFile):
    for config, data in ((smoke, {"train": train}), (folded(smoke, folds=2), {})):
        facts, problems = look_at_folds(config, data)
        assert (facts.plan, facts.data, problems) == (None, data, [])


@pytest.mark.parametrize(("folds", "fold", "rows"), [(5, 0, (8, 2)), (2, 1, (5, 5)), (10, 9, (9, 1))])
def test_a_fold_takes_its_rows_from_the_training_file(
    smoke: RunConfig, train: DataFile, folds: int, fold: int, rows: tuple[int, int]
):
    facts, problems = look_at_folds(folded(smoke, folds=folds, fold=fold), {"train": train})
    assert not problems
    assert facts.plan is not None
    assert (facts.plan.fold, facts.plan.folds) == (fold, folds)
    assert (facts.data["train"].rows, facts.data["held_out"].rows) == rows
    assert {file.path for file in facts.data.values()} == {train.path}


def test_the_final_model_trains_on_all_rows_and_records_the_draw(smoke: RunConfig, train: DataFile):
    final = look_at_folds(folded(smoke, folds=5), {"train": train})[0]
    part = look_at_folds(folded(smoke, folds=5, fold=3), {"train": train})[0]
    assert final.data == {"train": train}
    assert final.plan is not None
    assert part.plan is not None
    assert final.plan.sha256 == part.plan.sha256


@pytest.mark.parametrize(
    ("cv", "field"), [({"folds": 11}, "cv.folds"), ({"folds": 2, "group": "author"}, "cv.group")]
)
def test_rows_that_cannot_be_dealt_are_problems(
    smoke: RunConfig, train: DataFile, cv: dict[str, Any], field: str
):
    facts, problems = look_at_folds(folded(smoke, **cv), {"train": train})
    assert facts.plan is None
    assert {(problem.code, problem.field) for problem in problems} == {("cv.rows", field)}

"""Rules for the keys of a cross-validation."""

from typing import Any

import pytest

from launcher.planning.rules.fold import folds_agree
from tests.launcher.planning.conftest import config_with, made_facts


@pytest.mark.parametrize(
    ("cv", "found"),
    [
        ({}, []),
        ({"folds": 5}, []),
        ({"folds": 5, "fold": 0}, []),
        ({"folds": 5, "fold": 4, "group": "author", "seed": 3}, []),
        ({"folds": 5, "fold": 5}, [("cv.fold", "cv.fold", "0 to 4")]),
        ({"fold": 1}, [("cv.folds", "cv.fold", "cv.fold=1")]),
        ({"fold": 0}, [("cv.folds", "cv.fold", "cv.fold=0")]),
        (
            {"group": "author", "seed": 3},
            [("cv.folds", "cv.group", "cv.group='author'"), ("cv.folds", "cv.seed", "cv.seed=3")],
        ),
    ],
)
def test_folds_agree(cv: dict[str, Any], found: list[tuple[str, str, str]]):
    config = config_with({f"cv.{key}": value for key, value in cv.items()})
    problems = list(folds_agree(config, made_facts()))
    assert [(problem.code, problem.field) for problem in problems] == [entry[:2] for entry in found]
    for problem, (_, _, part) in zip(problems, found, strict=True):
        assert part in problem.message

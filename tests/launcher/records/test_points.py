"""The short label of a point."""

from typing import Any

import pytest

from launcher.records.points import label


@pytest.mark.parametrize(
    ("point", "text"),
    [
        ({}, ""),
        ({"optim.lr": 1e-3, "seed": 1}, "lr=0.001 seed=1"),
        ({"seed": 1, "optim.lr": 1e-3}, "seed=1 lr=0.001"),
        ({"zero": "stage2", "cv.fold": None}, "zero=stage2 fold=None"),
        ({"train.steps": 1, "eval.steps": 2, "seed": 0}, "train.steps=1 eval.steps=2 seed=0"),
    ],
)
def test_keys_are_as_short_as_they_can_be(point: dict[str, Any], text: str):
    assert label(point) == text

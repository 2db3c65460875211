"""Predictions of held-out rows: one line per row, in the order of the file, written by rank 0."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.group import on_ranks
from train.evaluate.predictions import write_predictions
from train.evaluate.scores import RowScore
from train.rundir import read_lines

CLASSES = [[RowScore(4, 0.3, 1, 1, 0), RowScore(0, 0.1, 1, 0, 0)], [RowScore(2, 0.2, 1, 2, 2)]]
TEXTS = [[RowScore(7, 3.5, 2), RowScore(1, 8.0, 9)], []]


@pytest.mark.parametrize(
    ("shares", "labels", "lines"),
    [
        (
            CLASSES,
            ["bug", "idea", "other"],
            [
                {"row": 0, "label": "bug", "predicted": "bug"},
                {"row": 2, "label": "other", "predicted": "other"},
                {"row": 4, "label": "idea", "predicted": "bug"},
            ],
        ),
        (TEXTS, [], [{"row": 1, "loss_sum": 8.0, "tokens": 9}, {"row": 7, "loss_sum": 3.5, "tokens": 2}]),
    ],
)
def test_rows_of_all_ranks_are_in_the_order_of_the_file(
    tmp_path: Path, shares: list[list[RowScore]], labels: list[str], lines: list[dict[str, Any]]
):
    def write(group: Any) -> None:
        path = tmp_path / f"rank_{group.env.rank}.jsonl"
        write_predictions(path, shares[group.env.rank], group, labels)

    on_ranks(2, write)
    assert list(read_lines(tmp_path / "rank_0.jsonl")) == lines
    assert [path.name for path in tmp_path.iterdir()] == ["rank_0.jsonl"]

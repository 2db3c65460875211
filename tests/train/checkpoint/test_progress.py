"""When a run has stopped getting better, and that a checkpoint knows it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from train.checkpoint.progress import PROGRESS, Progress, read_progress
from train.rundir import write_json


def ends_at(losses: list[float], patience: int | None) -> int | None:
    """The number of the validation after which a run ends."""
    progress = Progress()
    for number, loss in enumerate(losses, 1):
        progress = replace(progress, step=10 * number)
        progress.note_validation(loss)
        if progress.is_stale(patience):
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "patience", "end"),
    [
        ([3.0, 2.0, 2.1, 1.9, 2.0, 2.0], 2, 6),
        ([3.0, 2.0, 2.0], 1, 3),
        ([3.0, 2.0, 1.0, 0.5], 1, None),
        ([3.0, 3.1, 3.2, 3.3], None, None),
        ([3.0, 3.1, 3.2, 3.3], 3, 4),
        ([math.nan, math.inf], 2, 2),
        ([math.nan, 3.0, math.nan, 2.0, math.nan], 2, None),
    ],
)
def test_a_run_ends_after_so_many_validations_that_were_no_better(
    losses: list[float], patience: int | None, end: int | None
):
    assert ends_at(losses, patience) == end


def test_the_best_is_the_first_of_equals():
    progress = Progress()
    for step, loss in ((10, 2.0), (20, 2.0), (30, math.nan), (40, 2.5)):
        progress.step = step
        progress.note_validation(loss)
    assert (progress.best_loss, progress.best_step, progress.stale_validations) == (2.0, 10, 3)


def test_a_checkpoint_keeps_the_count(tmp_path: Path):
    progress = Progress(step=30, best_loss=2.0, best_step=10, stale_validations=2)
    write_json(tmp_path / PROGRESS, progress)
    assert read_progress(tmp_path) == progress

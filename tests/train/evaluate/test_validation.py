"""A validation chooses the best checkpoint and tells journal and tracker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train.rank.parts import OneRank, Tracker
from train.checkpoint.progress import Progress
from train.evaluate.validation import Validation
from train.faults import Faults, parse_faults
from train.journal.parts import Scores
from train.rundir import RunDir, read_lines


def validation(root: Path, tracker: Tracker, rows: Any, faults: str = "") -> Validation:
    engine: Any = None
    group: Any = OneRank()
    writer: Any = tracker
    heart: Any = SimpleNamespace(beat=lambda phase: None)
    return Validation(
        engine=engine,
        rows=rows,
        group=group,
        batch_size=2,
        causal=True,
        run_dir=RunDir(root),
        attempt=3,
        tracker=writer,
        heart=heart,
        faults=Faults(parse_faults(faults), rank=0, attempt=1, restart=0),
    )


def test_a_better_loss_is_noted_journaled_and_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    losses = iter((2.0, 2.5))
    monkeypatch.setattr(
        "train.evaluate.validation.evaluate",
        lambda *_, **__: Scores(rows=4, tokens=8, loss=next(losses), perplexity=7.4),
    )
    tracker, progress = Tracker(), Progress(step=5)
    check = validation(tmp_path, tracker, object())
    assert check.validate(progress)
    progress.step = 6
    assert not check.validate(progress)
    assert (progress.best_step, progress.best_loss, progress.stale_validations) == (5, 2.0, 1)
    rows = [
        (row["attempt"], row["step"], row["best"], row["loss"])
        for row in read_lines(tmp_path / "events.jsonl")
    ]
    assert rows == [(3, 5, True, 2.0), (3, 6, False, 2.5)]
    assert tracker.validations[0] == {
        "prefix": "validation",
        "step": 5,
        "rows": 4,
        "tokens": 8,
        "loss": 2.0,
        "perplexity": 7.4,
    }


def test_without_a_validation_set_nothing_is_scored(tmp_path: Path):
    progress = Progress(step=5)
    assert not validation(tmp_path, Tracker(), None).validate(progress)
    assert progress == Progress(step=5)


def test_a_fault_can_be_injected_into_a_validation(tmp_path: Path):
    with pytest.raises(RuntimeError, match="injected at evaluation"):
        validation(tmp_path, Tracker(), object(), "raise@evaluation").validate(Progress())

"""Scores over folds: pooled over the held-out rows, as scikit-learn computes them from all predictions."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score

from launcher.node.halving import setting_key
from launcher.records.sweeps import SweepDir
from launcher.sweep.board import pooled_scores
from launcher.sweep.results import TrialResult

LABELS = ("billing", "bug", "other")


def fold_trial(sweep: SweepDir, name: str, fold: int, seed: int, rows: list[dict[str, Any]]) -> TrialResult:
    run = sweep.run(name)
    run.evaluations.mkdir(parents=True)
    run.predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TrialResult(
        name=name,
        point={"optim.lr": 1e-3, "cv.fold": fold, "seed": seed},
        state="COMPLETED",
        why="",
        step=1,
        scores={},
        attempts=1,
        tokens=None,
        allocated_s=None,
        rank_hours=None,
        tokens_per_s=None,
        peak_gb=None,
    )


def guesses(count: int, chance: random.Random) -> list[dict[str, Any]]:
    rows = []
    for row in range(count):
        label = chance.choice(LABELS)
        rows.append(
            {
                "row": row,
                "label": label,
                "predicted": label if chance.random() < 0.7 else chance.choice(LABELS),
            }
        )
    return rows


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_classes_are_scored_over_all_folds_together(tmp_path: Path, metric: str):
    sweep, chance = SweepDir(tmp_path), random.Random(3)
    trials, expected = [], []
    for seed in (0, 1):
        parts = [guesses(count, chance) for count in (40, 7, 13)]
        trials += [
            replace(fold_trial(sweep, f"{seed}-{fold}", fold, seed, part), scores={"accuracy": 0.0})
            for fold, part in enumerate(parts)
        ]
        rows = [row for part in parts for row in part]
        truth, guess = [row["label"] for row in rows], [row["predicted"] for row in rows]
        expected.append(
            accuracy_score(truth, guess) if metric == "accuracy" else f1_score(truth, guess, average="macro")
        )
    [score] = pooled_scores(sweep, trials, metric).values()
    assert score == pytest.approx(sum(expected) / 2, abs=1e-12)
    [key] = pooled_scores(sweep, trials, metric)
    assert key == setting_key(trials[0].point)


def test_a_loss_of_classes_is_not_made_of_their_names(tmp_path: Path):
    sweep, chance = SweepDir(tmp_path), random.Random(5)
    trials = [
        replace(fold_trial(sweep, str(fold), fold, 0, guesses(9, chance)), scores={"accuracy": 0.7})
        for fold in (0, 1)
    ]
    assert pooled_scores(sweep, trials, "loss") == {}
    assert len(pooled_scores(sweep, trials, "accuracy")) == 1


def test_losses_are_weighted_by_tokens(tmp_path: Path):
    sweep = SweepDir(tmp_path)
    parts = [
        [{"row": 0, "loss_sum": 10.0, "tokens": 5}],
        [{"row": 1, "loss_sum": 9.0, "tokens": 90}, {"row": 2, "loss_sum": 1.0, "tokens": 5}],
    ]
    trials = [fold_trial(sweep, str(fold), fold, 0, part) for fold, part in enumerate(parts)]
    assert list(pooled_scores(sweep, trials, "loss").values()) == [pytest.approx(20 / 100)]


def test_half_a_cross_validation_has_no_pooled_score(tmp_path: Path):
    sweep = SweepDir(tmp_path)
    done = fold_trial(sweep, "a", 0, 0, [{"row": 0, "loss_sum": 10.0, "tokens": 5}])
    running = replace(done, name="b", point={**done.point, "cv.fold": 1}, state="RUNNING")
    assert pooled_scores(sweep, [done, running], "loss") == {}

"""From trials to a verdict."""

from typing import Any

import pytest

from launcher.sweep.leaderboard import Leaderboard, default_metric, make_leaderboard
from launcher.sweep.refine import propose
from launcher.sweep.results import TrialResult


def trial(score: float | None, metric: str = "validation_loss", **point: Any) -> TrialResult:
    return TrialResult(
        name=repr(point),
        point={key.replace("__", "."): value for key, value in point.items()},
        state="COMPLETED" if score is not None else "FAILED",
        why="" if score is not None else "out of memory",
        step=10,
        scores={} if score is None else {metric: score},
        attempts=1,
        tokens=100,
        allocated_s=60.0,
        rank_hours=0.03,
        tokens_per_s=100.0,
        peak_gb=1.0,
    )


def board(trials: list[TrialResult], metric: str = "validation_loss", **pooled: float) -> Leaderboard:
    axes: dict[str, list[Any]] = {}
    for entry in trials:
        for key, value in entry.point.items():
            values = axes.setdefault(key, [])
            if value not in values:
                values.append(value)
    return make_leaderboard("sweep", axes, trials, metric, pooled)


def test_settings_are_meaned_over_seeds_and_ranked():
    made = board(
        [trial(s, optim__lr=lr, seed=n) for lr, n, s in [(1, 0, 3.0), (1, 1, 3.2), (2, 0, 2.0), (2, 1, 2.2)]]
    )
    assert [setting.values for setting in made.settings] == [{"optim.lr": 2}, {"optim.lr": 1}]
    best = made.settings[0]
    assert best.score == pytest.approx(2.1)
    assert best.sd == pytest.approx(0.1414, abs=1e-4)
    assert best.finished == 2


def test_a_margin_that_every_seed_shares_is_decided_however_much_seeds_differ():
    shifts = [0.0, 0.9, -0.7]
    trials = [trial(3.0 + shift, optim__lr=1, seed=n) for n, shift in enumerate(shifts)]
    trials += [trial(2.8 + shift + 0.001 * n, optim__lr=2, seed=n) for n, shift in enumerate(shifts)]
    verdict = board(trials).verdict
    assert verdict.kind == "decided"
    assert verdict.margin == pytest.approx(0.199)


def test_a_margin_within_the_noise_is_called_that():
    trials = [trial(s, optim__lr=1, seed=n) for n, s in enumerate([3.0, 2.5, 3.5])]
    trials += [trial(s, optim__lr=2, seed=n) for n, s in enumerate([2.9, 3.1, 2.8])]
    verdict = board(trials).verdict
    assert verdict.kind == "within_noise"
    assert verdict.noise is not None
    assert verdict.noise > (verdict.margin or 0)


def test_what_ran_once_claims_nothing():
    assert board([trial(1.0, a=1), trial(2.0, a=2)]).verdict.kind == "unrepeated"
    assert board([trial(1.0, a=1), trial(None, a=2)]).verdict.kind == "only_one"
    assert board([trial(None, a=1)]).verdict.kind == "none"


def test_failed_trials_are_counted_and_do_not_spoil_the_mean():
    made = board([trial(1.0, a=1, seed=0), trial(None, a=1, seed=1)])
    assert made.settings[0].score == 1.0
    assert (made.settings[0].finished, len(made.settings[0].trials)) == (1, 2)
    assert made.states == {"COMPLETED": 1, "FAILED": 1}


def test_more_is_better_for_accuracies():
    made = board([trial(0.5, "macro_f1", a=1), trial(0.9, "macro_f1", a=2)], "macro_f1")
    assert made.best is not None
    assert made.best.values == {"a": 2}


def test_the_key_that_matters_comes_first():
    scores = [(lr, wd, 10 * lr + 0.1 * wd) for lr in (1, 2) for wd in (0, 1)]
    effects = board([trial(s, optim__lr=lr, wd=wd) for lr, wd, s in scores]).effects
    assert [effect.key for effect in effects] == ["optim.lr", "wd"]
    assert effects[0].share > 0.99
    assert sum(effect.share for effect in effects) == pytest.approx(1.0)


def test_folds_are_ranked_by_the_pooled_score_and_a_refit_is_no_evidence():
    trials = [trial(s, "loss", cv__fold=f) for f, s in ((0, 1.0), (1, 2.0), (None, 0.1))]
    assert default_metric(trials) == "loss"
    [setting] = board(trials, "loss", **{"[]": 1.7}).settings
    assert setting.score == 1.7
    assert setting.mean == 1.5
    assert len(setting.trials) == 2


def test_a_validation_set_decides_before_the_test_rows_do():
    found = [trial(1.0, a=1)]
    assert default_metric(found) == "validation_loss"
    assert default_metric([trial(1.0, "loss", a=1)]) == "loss"


def test_refine_goes_closer_around_a_decided_best():
    trials = [trial(s, optim__lr=lr, seed=n) for lr, s in ((1e-4, 3), (1e-3, 1), (1e-2, 2)) for n in (0, 1)]
    proposal = propose(["experiment=smoke", "optim.lr=1e-4,1e-3,1e-2", "seed=0,1"], board(trials))
    assert proposal.axes == {"optim.lr": [0.000316, 0.001, 0.00316]}
    assert proposal.command == (
        "shardline submit -m experiment=smoke seed=0,1 optim.lr=0.000316,0.001,0.00316"
    )


def test_refine_goes_on_past_an_edge_in_proportion():
    trials = [trial(s, optim__lr=lr, seed=n) for lr, s in ((1e-4, 3), (1e-3, 2), (1e-2, 1)) for n in (0, 1)]
    proposal = propose([], board(trials))
    assert proposal.axes == {"optim.lr": [0.01, 0.1]}
    assert "edge" in proposal.reasons[0]


def test_refine_repeats_before_it_goes_closer():
    trials = [trial(s, optim__lr=lr, seed=0) for lr, s in ((1e-4, 3.0), (1e-3, 1.0), (1e-2, 1.01))]
    proposal = propose(["optim.lr=1e-4,1e-3,1e-2"], board(trials))
    assert proposal.axes == {"optim.lr": [0.001, 0.01], "seed": [0, 1, 2]}
    assert proposal.command == "shardline submit -m optim.lr=0.001,0.01 seed=0,1,2"

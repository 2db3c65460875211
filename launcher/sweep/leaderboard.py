"""Rank the settings of a sweep, with the effect of each swept key and the significance. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev, variance
from typing import Any, Literal

from launcher.node.halving import setting_key, setting_of
from launcher.records.points import REPEATS, Point
from launcher.sweep.results import METRICS, Direction, TrialResult

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One combination of swept values, with the trials of its seeds and folds."""

    values: dict[str, Any]
    trials: tuple[TrialResult, ...]
    score: float | None
    """Score that ranks the setting: the mean over its finished trials or, with folds, the score of all
    held-out rows together, averaged over seeds."""
    mean: float | None
    sd: float | None
    """Standard deviation over seeds and folds; None with fewer than two trials."""

    @property
    def finished(self) -> int:
        """Number of finished trials."""
        return sum(trial.state == "COMPLETED" for trial in self.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Effect of a swept key on the metric."""

    key: str
    means: tuple[tuple[Any, float, int], ...]
    """Each value with the mean and number of its finished trials, in the order of the axis."""
    share: float
    """Share of the variance between trials that this key explains (eta squared), from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepVerdict:
    """The best setting, and whether its lead is significant."""

    kind: Literal["decided", "within_noise", "unrepeated", "only_one", "none"]
    margin: float | None
    """Difference between the best and the second setting, in the unit of the metric."""
    noise: float | None
    """Margin that chance alone exceeds in 5 % of cases."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """The results of a sweep."""

    sweep: str
    metric: str
    direction: Direction
    axes: Mapping[str, Sequence[Any]]
    """Every swept key with its values, including seeds and folds."""
    settings: tuple[Setting, ...]
    """Settings from best to worst, then those without a score."""
    effects: tuple[Effect, ...]
    """Effects of the swept keys, largest first."""
    verdict: SweepVerdict
    states: Mapping[str, int]
    """Number of trials in each state."""

    def sorted_by(self, key: str) -> "Leaderboard":
        """Return a copy with the settings in the order of a swept key's values."""
        values = list(self.axes[key])

        def place(setting: Setting) -> int:
            return values.index(setting.values[key]) if key in setting.values else 0

        return replace(self, settings=tuple(sorted(self.settings, key=place)))

    @property
    def best(self) -> Setting | None:
        """The setting with the best score, in any order of the rows."""
        scored = [setting for setting in self.settings if setting.score is not None]
        return min(scored, key=lambda setting: _rank(setting.score, self.direction), default=None)


def make_leaderboard(
    sweep: str,
    axes: Mapping[str, Sequence[Any]],
    trials: Sequence[TrialResult],
    metric: str,
    pooled: Mapping[str, float],
) -> Leaderboard:
    """Rank the settings of a sweep.

    Args:
        sweep: Name of the sweep.
        axes: Every swept key with its values.
        trials: All trials of the sweep.
        metric: A key of METRICS.
        pooled: Score over the held-out rows of all folds, by `setting_key`; empty without folds.
    """
    direction = METRICS[metric]
    # A refit was trained on the held-out rows, so its score is not comparable.
    judged = [trial for trial in trials if trial.point.get("cv.fold", 0) is not None]
    groups: dict[str, list[TrialResult]] = {}
    for trial in judged:
        groups.setdefault(setting_key(trial.point), []).append(trial)
    settings = [_setting(key, group, metric, pooled) for key, group in groups.items()]
    settings.sort(key=lambda setting: _rank(setting.score, direction))
    states: dict[str, int] = {}
    for trial in trials:
        states[trial.state] = states.get(trial.state, 0) + 1
    return Leaderboard(
        sweep=sweep,
        metric=metric,
        direction=direction,
        axes=axes,
        settings=tuple(settings),
        effects=_effects(axes, judged, metric),
        verdict=_verdict(settings, metric, direction),
        states=states,
    )


def default_metric(trials: Sequence[TrialResult]) -> str:
    """Return the metric used if none is given. Scores on test rows are the last choice.

    With folds it is the score on the held-out rows, else the validation loss.
    """
    names = [name for name in METRICS if any(name in trial.scores for trial in trials)]
    if any("cv.fold" in trial.point for trial in trials):
        names = [name for name in ("macro_f1", "loss") if name in names] or names
    return names[0] if names else "validation_loss"


def _setting(key: str, group: Sequence[TrialResult], metric: str, pooled: Mapping[str, float]) -> Setting:
    scores = [trial.scores[metric] for trial in group if metric in trial.scores]
    mean = fmean(scores) if scores else None
    return Setting(
        values=setting_of(group[0].point),
        trials=tuple(group),
        score=pooled.get(key, mean),
        mean=mean,
        sd=stdev(scores) if len(scores) > 1 else None,
    )


def _rank(score: float | None, direction: Direction) -> float:
    if score is None or math.isnan(score):
        return math.inf
    return score if direction == "min" else -score


def _effects(
    axes: Mapping[str, Sequence[Any]], trials: Sequence[TrialResult], metric: str
) -> tuple[Effect, ...]:
    scored = [trial for trial in trials if metric in trial.scores]
    effects = [_effect(key, values, scored, metric) for key, values in axes.items()]
    return tuple(sorted((e for e in effects if len(e.means) > 1), key=lambda effect: -effect.share))


def _effect(key: str, values: Sequence[Any], trials: Sequence[TrialResult], metric: str) -> Effect:
    """Compute eta squared, the variance of the group means over the total variance (Fisher 1925)."""
    groups: dict[str, list[float]] = {}
    for trial in trials:
        groups.setdefault(repr(trial.point[key]), []).append(trial.scores[metric])
    found = [(value, groups[repr(value)]) for value in values if repr(value) in groups]
    every = [score for _, scores in found for score in scores]
    middle = fmean(every) if every else 0.0
    total = sum((score - middle) ** 2 for score in every)
    between = sum(len(scores) * (fmean(scores) - middle) ** 2 for _, scores in found)
    return Effect(
        key=key,
        means=tuple((value, fmean(scores), len(scores)) for value, scores in found),
        share=between / total if total > 0 else 0.0,
    )


def _verdict(settings: Sequence[Setting], metric: str, direction: Direction) -> SweepVerdict:
    scored = [setting for setting in settings if setting.score is not None]
    if not scored:
        return SweepVerdict(kind="none", margin=None, noise=None, text="no trial has finished yet")
    if len(scored) == 1:
        return SweepVerdict(
            kind="only_one", margin=None, noise=None, text="only one setting has a score so far"
        )
    best, second = scored[:2]
    assert best.score is not None
    assert second.score is not None
    margin = second.score - best.score if direction == "min" else best.score - second.score
    noise = _noise(best, second, scored, metric)
    lead = f"best by {metric}: {_named(best)} with {best.score:.4g}, {margin:.3g} ahead of {_named(second)}"
    if noise is None:
        text = f"{lead}; significance unknown, because each setting ran only once"
        return SweepVerdict(kind="unrepeated", margin=margin, noise=None, text=text)
    if margin > noise:
        text = f"{lead}; significant at the 5 % level (noise: {noise:.3g})"
        return SweepVerdict(kind="decided", margin=margin, noise=noise, text=text)
    text = f"{lead}; not significant at the 5 % level (noise: {noise:.3g}); add seeds to decide"
    return SweepVerdict(kind="within_noise", margin=margin, noise=noise, text=text)


def _named(setting: Setting) -> str:
    return " ".join(f"{key}={value}" for key, value in setting.values.items()) or "the only setting"


def _noise(best: Setting, second: Setting, settings: Sequence[Setting], metric: str) -> float | None:
    """Return the margin that is significant at the 5 % level, or None if no setting was repeated.

    It is Student's t for paired differences over common seeds and folds. Without common ones, it is Student's
    t for two means, with the variance pooled over all settings.
    """
    from scipy.special import stdtrit

    pairs = _paired(best, second, metric)
    if len(pairs) > 1:
        freedom = len(pairs) - 1
        return float(stdtrit(freedom, _CONFIDENCE) * stdev(pairs) / math.sqrt(len(pairs)))
    samples = [[trial.scores[metric] for trial in s.trials if metric in trial.scores] for s in settings]
    repeated = [scores for scores in samples if len(scores) > 1]
    if not repeated:
        return None
    freedom = sum(len(scores) - 1 for scores in repeated)
    pooled = sum((len(scores) - 1) * variance(scores) for scores in repeated) / freedom
    error = math.sqrt(pooled * (1 / len(samples[0]) + 1 / len(samples[1])))
    return float(stdtrit(freedom, _CONFIDENCE) * error)


def _paired(best: Setting, second: Setting, metric: str) -> list[float]:
    other = {_repeat(trial.point): trial.scores[metric] for trial in second.trials if metric in trial.scores}
    return [
        trial.scores[metric] - other[_repeat(trial.point)]
        for trial in best.trials
        if metric in trial.scores and _repeat(trial.point) in other
    ]


def _repeat(point: Point) -> tuple[Any, ...]:
    return tuple(point[key] for key in REPEATS if key in point)

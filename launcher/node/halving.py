"""Successive halving (Jamieson & Talwalkar 2016): choose the settings that continue. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from launcher.records.points import REPEATS, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The score of a trial at a rung."""

    trial: str
    point: Point
    loss: float | None
    """Validation loss at the rung, or the training loss before it; None if the trial did not reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RungDecision:
    """The decision at a rung."""

    step: int
    kept: list[str]
    """Trials that continue, those of the best setting first."""
    dropped: dict[str, str]
    """Trials that stop at the rung, each with the reason."""


def shrunk(trials: int, settings: int, keep: float) -> tuple[int, int]:
    """Return the largest number of trials, and the number of settings, that continue after a rung."""
    kept = math.ceil(keep * settings)
    return math.ceil(trials / settings) * kept, kept


def decide(standings: Sequence[Standing], step: int, keep: float) -> RungDecision:
    """Keep the settings with the lowest mean loss over their seeds and folds."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        groups.setdefault(setting_key(standing.point), []).append(standing)
    scores = {key: _score(group) for key, group in groups.items()}
    ranked = sorted((score, key) for key, score in scores.items() if score is not None)
    kept = [key for _, key in ranked[: math.ceil(keep * len(groups))]]
    dropped: dict[str, str] = {}
    for key, group in groups.items():
        if key not in kept:
            reason = _why(scores[key], scores[kept[-1]] if kept else None, len(kept), len(groups), step)
            dropped |= {standing.trial: reason for standing in group}
    going = [standing.trial for key in kept for standing in groups[key] if standing.loss is not None]
    return RungDecision(step=step, kept=going, dropped=dropped)


def setting_key(point: Point) -> str:
    """Return a key that is equal for all points of one setting."""
    return repr(sorted(setting_of(point).items()))


def setting_of(point: Point) -> dict[str, Any]:
    """Return the values of a point without seeds and folds."""
    return {key: value for key, value in point.items() if key not in REPEATS}


def _score(group: Sequence[Standing]) -> float | None:
    losses = [standing.loss for standing in group if standing.loss is not None]
    return mean(losses) if losses else None


def _why(score: float | None, last: float | None, kept: int, settings: int, step: int) -> str:
    if score is None or last is None:
        return f"no trial of this setting reached step {step} with a finite loss"
    return f"loss {score:.4f} at step {step}; the best {kept} of {settings} settings have {last:.4f} or less"

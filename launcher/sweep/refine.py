"""Propose the next sweep around the best setting of a leaderboard. Pure functions."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.sweep.leaderboard import Leaderboard

_SWEEP_KEYS = ("sweep=", "sweep.")
_FEW_REPEATS = 3
_WIDENING = 3.0
"""Factor by which an axis is extended past its edge if its values give no step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The proposed next sweep."""

    axes: dict[str, list[Any]]
    """Values by key; a single one, the best, for axes that are not varied further."""
    reasons: list[str]
    command: str


def propose(overrides: Sequence[str], board: Leaderboard) -> Proposal:
    """Narrow each numeric axis around the best value, or extend it if that is at an edge.

    If the lead of the best setting is not significant, the leading settings are repeated with more seeds.

    Args:
        overrides: Overrides of the last submission.
        board: The leaderboard of the sweep.
    """
    best = board.best
    if best is None:
        return Proposal(axes={}, reasons=["nothing to refine: no trial has finished yet"], command="")
    axes: dict[str, list[Any]] = {}
    reasons: list[str] = []
    for key, value in best.values.items():
        axes[key], reason = _around(key, value, list(board.axes[key]))
        reasons.append(reason)
    if board.verdict.kind in ("within_noise", "unrepeated"):
        # The best setting must be known before the axes are narrowed.
        axes = {key: _leading(key, board) for key in best.values}
        seeds = list(board.axes.get("seed", [0]))
        more = max(_FEW_REPEATS, 2 * len(seeds))
        axes["seed"] = list(range(more))
        reasons = [f"{board.verdict.text}", f"repeat the leading settings with {more} seeds"]
    kept = [text for text in overrides if not _replaced(text, axes)]
    swept = [f"{key}={','.join(_text(value) for value in values)}" for key, values in axes.items()]
    command = shlex.join(["shardline", "submit", "-m", *kept, *swept])
    return Proposal(axes=axes, reasons=reasons, command=command)


def _replaced(text: str, axes: dict[str, list[Any]]) -> bool:
    return text.partition("=")[0] in axes or text.startswith(_SWEEP_KEYS)


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _leading(key: str, board: Leaderboard) -> list[Any]:
    """Return the values of the two best settings."""
    scored = sorted(
        (setting for setting in board.settings if setting.score is not None),
        key=lambda setting: setting.score if board.direction == "min" else -(setting.score or 0.0),  # type: ignore[arg-type,return-value]
    )
    return list(dict.fromkeys(setting.values[key] for setting in scored[:2]))


def _around(key: str, value: Any, values: Sequence[Any]) -> tuple[list[Any], str]:
    numbers = sorted(
        number for number in values if isinstance(number, int | float) and not isinstance(number, bool)
    )
    if value not in numbers or len(numbers) < 2:
        return [value], f"{key}: keep the best value {_text(value)}"
    at = numbers.index(value)
    if at in (0, len(numbers) - 1):
        beyond = _beyond(numbers, at)
        if beyond != value:
            pair = sorted([beyond, value])
            return pair, f"{key}: the best value {value} is at the edge; extend the axis to {beyond}"
    near = [numbers[i] for i in (at - 1, at + 1) if 0 <= i < len(numbers)]
    between = [_middle(value, other) for other in near]
    close = sorted({*between, value})
    return close, f"{key}: narrow the axis around the best value {value}"


def _beyond(numbers: Sequence[float], at: int) -> float:
    """Return the value one step past the edge; the step is a factor if the values span a wide range."""
    edge, inner = numbers[at], numbers[1 if at == 0 else at - 1]
    if _proportional(numbers):
        return _rounded(edge * edge / inner, edge)
    step = edge - inner
    beyond = edge + step
    return _rounded(beyond if beyond > 0 or numbers[0] < 0 else edge / _WIDENING, edge)


def _middle(a: float, b: float) -> float:
    both_positive = a > 0 and b > 0 and not (isinstance(a, int) and isinstance(b, int))
    return _rounded(math.sqrt(a * b) if both_positive else (a + b) / 2, a)


def _proportional(numbers: Sequence[float]) -> bool:
    return numbers[0] > 0 and numbers[-1] / numbers[0] >= _WIDENING


def _rounded(value: float, like: float) -> float:
    return round(value) if isinstance(like, int) else float(f"{value:.3g}")

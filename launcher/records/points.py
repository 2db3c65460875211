"""The points of a sweep: a value for each axis, and their short label."""

from collections import Counter
from typing import Any

REPEATS = ("seed", "cv.fold")
"""Axes that repeat a setting instead of changing it: their values are aggregated, never chosen from."""


Point = dict[str, Any]
"""A value for each axis."""


def label(point: Point) -> str:
    """A point in short: `lr=0.001 seed=1`."""
    names = {key: key.rpartition(".")[2] for key in point}
    taken = Counter(names.values())
    return " ".join(
        f"{names[key] if taken[names[key]] == 1 else key}={value}" for key, value in point.items()
    )

"""The points of a sweep, and their labels. A point has a value for each axis."""

from collections import Counter
from typing import Any

REPEATS = ("seed", "cv.fold")
"""Axes that repeat a setting. Scores are averaged over their values, and none of them is chosen as best."""


Point = dict[str, Any]
"""A value for each axis."""


def label(point: Point) -> str:
    """Format a point with short names of its keys: `lr=0.001 seed=1`."""
    names = {key: key.rpartition(".")[2] for key in point}
    taken = Counter(names.values())
    return " ".join(
        f"{names[key] if taken[names[key]] == 1 else key}={value}" for key, value in point.items()
    )

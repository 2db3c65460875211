"""Where swept values lie on an axis, and how they are written. Pure."""

import math
from collections.abc import Sequence
from typing import Any

_EVEN_VALUES = 8
"""An axis with more numbers than this is drawn to scale."""
_LOG_FROM = 20.0


def text_of(value: Any) -> str:
    """A swept value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Whether a value has a place on a scale."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Each value once; numbers by size, everything else as it came."""
    once = list({text_of(value): value for value in values}.values())
    return sorted(once) if all(is_number(value) for value in once) else once


def is_continuous(values: Sequence[Any]) -> bool:
    """Whether these are so many numbers that they are drawn to scale."""
    return len(in_order(values)) > _EVEN_VALUES and all(is_number(value) for value in values)


def scale_type(values: Sequence[float]) -> str:
    """`log` for positive numbers of different magnitude, else `linear`."""
    return "log" if min(values) > 0 and max(values) / min(values) >= _LOG_FROM else "linear"


def spread_out(values: Sequence[float]) -> list[float]:
    """Numbers as shares of their range, 0 to 1; all in the middle if there is none."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def axis_places(values: Sequence[Any]) -> dict[str, float]:
    """Where values lie on an axis from 0 to 1, by their text: to scale if they are many, else evenly."""
    ordered = in_order(values)
    if not is_continuous(ordered):
        places = spread_out(list(range(len(ordered))))
    elif scale_type(ordered) == "log":
        places = spread_out([math.log(value) for value in ordered])
    else:
        places = spread_out(ordered)
    return {text_of(value): at for value, at in zip(ordered, places, strict=True)}

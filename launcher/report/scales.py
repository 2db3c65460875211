"""Positions of swept values on an axis and their text. Pure."""

import math
from collections.abc import Sequence
from typing import Any

_EVEN_VALUES = 8
"""Largest number of values that are spaced evenly; an axis with more numbers is drawn to scale."""
_LOG_FROM = 20.0


def text_of(value: Any) -> str:
    """Return a swept value as text, in the notation of the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Return whether a value is a number and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Return each value once: numbers sorted, other values in their order."""
    once = list({text_of(value): value for value in values}.values())
    return sorted(once) if all(is_number(value) for value in once) else once


def is_continuous(values: Sequence[Any]) -> bool:
    """Return whether an axis of these values is drawn to scale."""
    return len(in_order(values)) > _EVEN_VALUES and all(is_number(value) for value in values)


def scale_type(values: Sequence[float]) -> str:
    """Return `log` for positive numbers of different magnitude, else `linear`."""
    return "log" if min(values) > 0 and max(values) / min(values) >= _LOG_FROM else "linear"


def spread_out(values: Sequence[float]) -> list[float]:
    """Return the position of each number in their range, from 0 to 1; 0.5 if all are equal."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def axis_places(values: Sequence[Any]) -> dict[str, float]:
    """Return the position of each value from 0 to 1, by its text: to scale for many numbers, else evenly."""
    ordered = in_order(values)
    if not is_continuous(ordered):
        places = spread_out(list(range(len(ordered))))
    elif scale_type(ordered) == "log":
        places = spread_out([math.log(value) for value in ordered])
    else:
        places = spread_out(ordered)
    return {text_of(value): at for value, at in zip(ordered, places, strict=True)}

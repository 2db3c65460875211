"""Thinning and smoothing of long curves. Pure."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from launcher.report.contents import Curves, Series
from train.journal.events import Validated
from train.metrics import MetricsRow

POINTS = 300
"""Largest number of points per curve; more would not be visible at the width of a chart."""
_ALL_POINTS, _FEWEST = 12_000, 50
_TREND_SHARE = 0.02


def points_for(curves: int) -> int:
    """Return the number of points per curve, which decreases with the number of curves on the page."""
    return max(_FEWEST, min(POINTS, _ALL_POINTS // max(1, curves)))


def curves_of(
    metrics: Sequence[MetricsRow], validations: Sequence[Validated], points: int = POINTS
) -> Curves:
    """Return the curves of a run.

    Args:
        metrics: Rows of metrics.jsonl, each step once, in order.
        validations: Validations of the journal, each step once, in order.
        points: Largest number of points per curve.
    """
    loss = _series(metrics, lambda row: row.loss)
    return Curves(
        loss=thinned(loss, points),
        trend=thinned(running_mean(loss), points),
        validation=thinned(_validation(metrics, validations), points),
        rate=thinned(_series(metrics, lambda row: row.lr), points),
        speed=thinned(_series(metrics, lambda row: row.tokens_per_s), points),
        norm=thinned(_series(metrics, lambda row: row.grad_norm), points),
        rows=len(metrics),
        not_finite=sum(row.loss is None for row in metrics),
    )


def thinned(series: Series, points: int) -> Series:
    """Return a curve with at most `points` points that keeps its shape and its spikes.

    Largest triangle three buckets (Steinarsson 2013): each bucket is represented by the point that spans the
    largest triangle with the previously chosen point and the mean of the next bucket.
    """
    if len(series.values) <= points:
        return series
    x, y = series.steps, series.values
    edges = [1 + i * (len(y) - 2) // (points - 2) for i in range(points - 1)]
    chosen = [0]
    for i, (first, last) in enumerate(pairwise(edges)):
        end = edges[i + 2] if i + 2 < len(edges) else len(y)
        mean_x, mean_y = sum(x[last:end]) / (end - last), sum(y[last:end]) / (end - last)
        chosen.append(max(range(first, last), key=_triangle(x, y, chosen[-1], mean_x, mean_y)))
    chosen.append(len(y) - 1)
    return Series(
        tuple(x[i] for i in chosen), tuple(series.tokens[i] for i in chosen), tuple(y[i] for i in chosen)
    )


def _triangle(
    x: Sequence[float], y: Sequence[float], before: int, mean_x: float, mean_y: float
) -> Callable[[int], float]:
    """Return a function for twice the area of the triangle of a point, the one before and the mean after."""
    x_0, y_0 = x[before], y[before]
    return lambda i: abs((x_0 - mean_x) * (y[i] - y_0) - (x_0 - x[i]) * (mean_y - y_0))


def running_mean(series: Series) -> Series:
    """Return the running mean, whose window is a fiftieth of the curve's length."""
    width = max(1, round(len(series.values) * _TREND_SHARE))
    sums = [0.0, *accumulate(series.values)]
    means = tuple((sums[i] - sums[max(0, i - width)]) / (i - max(0, i - width)) for i in range(1, len(sums)))
    return Series(series.steps, series.tokens, means)


def _series(rows: Sequence[MetricsRow], column: Callable[[MetricsRow], float | None]) -> Series:
    """Return a column of the metrics without steps that have no finite value."""
    kept = [(row.step, row.tokens, value) for row in rows if (value := column(row)) is not None]
    return Series(
        tuple(step for step, _, _ in kept),
        tuple(tokens for _, tokens, _ in kept),
        tuple(float(value) for _, _, value in kept),
    )


def _validation(metrics: Sequence[MetricsRow], validations: Sequence[Validated]) -> Series:
    """Return the validation losses; the tokens of each are those of the last step logged before it."""
    tokens, position, seen = [], 0, 0
    for row in validations:
        while position < len(metrics) and metrics[position].step <= row.step:
            seen = metrics[position].tokens
            position += 1
        tokens.append(seen)
    steps = tuple(row.step for row in validations)
    return Series(steps, tuple(tokens), tuple(float(row.loss) for row in validations))

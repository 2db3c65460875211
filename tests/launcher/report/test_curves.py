"""Thinning keeps the shape, and what cannot be drawn is counted."""

from launcher.report.contents import Series
from launcher.report.curves import POINTS, curves_of, points_for, running_mean, thinned
from tests.rows import metrics_row as row
from train.journal.events import Validated


def series(values: list[float]) -> Series:
    steps = tuple(range(1, len(values) + 1))
    return Series(steps, tuple(step * 10 for step in steps), tuple(values))


def validation(step: int, loss: float) -> Validated:
    return Validated(attempt=1, step=step, best=True, rows=1, tokens=1, loss=loss)


def test_a_short_curve_stays_as_it_is():
    short = series([3.0, 2.0, 1.0])
    assert thinned(short, POINTS) is short


def test_a_long_curve_keeps_its_ends_and_its_spike():
    values = [10 - step / 1000 for step in range(10_000)]
    values[4321] = 50.0
    long = thinned(series(values), 300)
    assert len(long.values) == len(long.steps) == len(long.tokens) == 300
    assert (long.steps[0], long.steps[-1]) == (1, 10_000)
    assert 50.0 in long.values
    assert list(long.steps) == sorted(long.steps)
    assert all(tokens == step * 10 for step, tokens in zip(long.steps, long.tokens, strict=True))


def test_many_curves_share_the_points():
    assert points_for(1) == POINTS
    assert points_for(64) * 64 <= 12_000
    assert points_for(10_000) == 50


def test_the_trend_is_the_mean_of_the_newest_fiftieth():
    trend = running_mean(series([float(step) for step in range(100)]))
    assert trend.values[0] == 0.0
    assert trend.values[99] == (98 + 99) / 2


def test_losses_that_are_no_numbers_are_left_out_and_counted():
    curves = curves_of([row(1, 2.0), row(2, None), row(3, 1.0)], [])
    assert curves.loss.steps == (1, 3)
    assert (curves.rows, curves.not_finite) == (3, 1)
    assert not curves.norm
    assert not curves.validation


def test_a_validation_has_the_tokens_of_the_newest_logged_step():
    curves = curves_of([row(5, 2.0), row(10, 1.0)], [validation(7, 1.5), validation(10, 1.2)])
    assert curves.validation == Series((7, 10), (50, 100), (1.5, 1.2))

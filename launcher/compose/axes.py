"""The axes of a sweep, and its points. Pure functions."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from launcher.errors import Problem, nearest
from launcher.records.points import REPEATS, Point

if TYPE_CHECKING:
    from launcher.config import SweepConfig


@dataclass(frozen=True, slots=True)
class Interval:
    """A continuous range, for samplers."""

    low: float
    high: float
    log: bool
    integer: bool

    def at(self, share: float) -> float | int:
        """Return the value below which this share of the range lies. The share is in [0, 1)."""
        if self.integer:
            return int(self.low) + int(share * (int(self.high) - int(self.low) + 1))
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        # Three digits keep commands and names short.
        return float(f"{value:.3g}")


@dataclass(frozen=True, slots=True)
class Axis:
    """One key or group and its values."""

    key: str
    is_group: bool
    choices: tuple[Any, ...] = ()
    interval: Interval | None = None

    def at(self, share: float) -> Any:
        """Return the value at this share of the axis. The share is in [0, 1)."""
        return self.interval.at(share) if self.interval else self.choices[int(share * len(self.choices))]


@dataclass(frozen=True, slots=True)
class _Dimension:
    """One axis, or several axes of sweep.zip whose values are combined in pairs."""

    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return len(self.axes[0].choices)

    def rows(self) -> list[Point]:
        keys = [axis.key for axis in self.axes]
        return [
            dict(zip(keys, row, strict=True)) for row in zip(*(a.choices for a in self.axes), strict=True)
        ]

    def at(self, share: float) -> Point:
        if len(self.axes) == 1:
            return {self.axes[0].key: self.axes[0].at(share)}
        return self.rows()[int(share * self.size)]


def points(axes: Sequence[Axis], settings: "SweepConfig") -> list[Point]:
    """Return all points of a sweep in a fixed order, without the excluded ones.

    Every setting of the sampler is combined with all seeds and folds.
    """
    drawn = _dimensions([axis for axis in axes if axis.key not in REPEATS], settings)
    repeated = [_Dimension((axis,)) for axis in axes if axis.key in REPEATS]
    found = [{**setting, **repeat} for setting in _settings(drawn, settings) for repeat in _crossed(repeated)]
    return [point for point in found if not any(_fits(point, excluded) for excluded in settings.exclude)]


def check_axes(axes: Sequence[Axis], settings: "SweepConfig") -> Iterator[Problem]:
    """Yield the problems of invalid axes and settings."""
    keys = [axis.key for axis in axes]
    if not axes:
        fix = "give a key several values, such as optim.lr=1e-4,3e-4"
        yield _problem("axes", "no key has several values", fix)
    for axis in axes:
        yield from _check_interval(axis, settings)
    for name, wanted in (("zip", settings.zip), ("exclude", settings.exclude)):
        for key in (key for entry in wanted for key in entry if key not in keys):
            yield _problem(name, f"unknown axis {key!r}", nearest(key, keys))
    for bundle in settings.zip:
        yield from _check_pairs(axes, bundle)
    yield from _check_sampler(settings)
    if settings.refit and "cv.fold" not in keys:
        yield _problem("refit", "sweep.refit=true needs cv.folds", "set cv.folds, or set sweep.refit=false")


def _check_pairs(axes: Sequence[Axis], bundle: Sequence[str]) -> Iterator[Problem]:
    lengths = {axis.key: len(axis.choices) for axis in axes if axis.key in bundle}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        yield _problem(
            "zip",
            f"axes in sweep.zip need equal numbers of values, but {counts}",
            "give each axis the same number of values",
        )
    if repeats := [key for key in bundle if key in REPEATS]:
        yield _problem(
            "zip",
            f"{repeats[0]} repeats settings and cannot be in sweep.zip",
            f"remove {repeats[0]} from sweep.zip",
        )


def _check_sampler(settings: "SweepConfig") -> Iterator[Problem]:
    """Check that a grid has neither a number of settings nor a seed; other samplers need the number."""
    if settings.sampler == "grid":
        for name in ("n", "seed"):
            if getattr(settings, name):
                yield _problem(
                    name,
                    f"sweep.{name} has no effect with sweep.sampler=grid, which runs every combination",
                    f"set sweep.sampler=random or sobol, or remove sweep.{name}",
                )
    elif settings.n is None:
        fix = "set sweep.n to the number of settings"
        yield _problem("n", f"sweep.sampler={settings.sampler} needs sweep.n", fix)


def _check_interval(axis: Axis, settings: "SweepConfig") -> Iterator[Problem]:
    interval = axis.interval
    if interval is None:
        return
    if settings.sampler == "grid" or axis.key in REPEATS:
        yield _problem(
            axis.key,
            f"{axis.key} is an interval, but a grid needs a list of values",
            f"list the values of {axis.key}, or set sweep.sampler=random or sobol",
        )
    if any(axis.key in bundle for bundle in settings.zip):
        yield _problem(
            "zip",
            f"{axis.key} is an interval, but sweep.zip needs a list of values",
            f"list the values of {axis.key}",
        )
    if interval.low >= interval.high or (interval.log and interval.low <= 0):
        yield _problem(
            axis.key,
            f"invalid interval of {axis.key}: {interval.low:g} to {interval.high:g}",
            "give the smaller bound first; for tag(log, ...), it must be positive",
        )


def _problem(name: str, message: str, fix: str) -> Problem:
    field = name if "." in name else f"sweep.{name}"
    return Problem(code="sweep.axes", field=field, message=message, fix=fix)


def _dimensions(axes: Sequence[Axis], settings: "SweepConfig") -> list[_Dimension]:
    bundles: list[_Dimension] = []
    taken: set[str] = set()
    for axis in axes:
        if axis.key in taken:
            continue
        together = next((bundle for bundle in settings.zip if axis.key in bundle), [axis.key])
        bundles.append(_Dimension(tuple(other for other in axes if other.key in together)))
        taken |= set(together)
    return bundles


def _settings(dimensions: Sequence[_Dimension], settings: "SweepConfig") -> Iterator[Point]:
    if settings.sampler == "grid" or settings.n is None:
        yield from _crossed(dimensions)
        return
    draw = _sobol if settings.sampler == "sobol" else _random
    for shares in draw(len(dimensions), settings.n, settings.seed):
        yield {
            key: value
            for dimension, share in zip(dimensions, shares, strict=True)
            for key, value in dimension.at(share).items()
        }


def _crossed(dimensions: Sequence[_Dimension]) -> Iterator[Point]:
    for rows in product(*(dimension.rows() for dimension in dimensions)):
        yield {key: value for row in rows for key, value in row.items()}


def _random(dimensions: int, n: int, seed: int) -> Iterator[list[float]]:
    chance = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    for _ in range(n):
        yield [chance.random() for _ in range(dimensions)]


def _sobol(dimensions: int, n: int, seed: int) -> Iterator[list[float]]:
    """Yield a scrambled Sobol sequence (Owen 1998). A longer sequence starts with the same points."""
    import warnings

    from scipy.stats.qmc import Sobol

    with warnings.catch_warnings():
        # It warns if n is not a power of two; users may choose any number.
        warnings.simplefilter("ignore", UserWarning)
        yield from Sobol(dimensions, rng=seed).random(n).tolist()


def _fits(point: Point, excluded: Mapping[str, Any]) -> bool:
    return all(point[key] == value for key, value in excluded.items())

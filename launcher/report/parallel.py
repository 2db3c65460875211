"""Parallel coordinates: each finished trial is a line through its swept values and its metric. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.report.by_trial import (
    HOVER,
    LOOKUP,
    TARGET,
    colour_by_metric,
    judged_trials,
    lit,
    tips,
    trials_data,
)
from launcher.report.charts import Chart, Columns, Spec, field, layered
from launcher.report.contents import SweepReport, TrialReport
from launcher.report.scales import axis_places, spread_out, text_of

_CLOSEST = 0.07
"""Smallest distance between two ticks, as a share of the axis; closer ticks would overlap."""


def parallel_coordinates(report: SweepReport) -> Chart | None:
    """Return the chart, or None if fewer than two trials have a score."""
    trials = judged_trials(report)
    if len(trials) < 2:
        return None
    metric = report.board.metric
    keys = [key for key, values in report.board.axes.items() if len(values) > 1]
    axes = {name: _values(trials, key) for key, name in zip(keys, _short(keys), strict=True)}
    places = {
        name: [axis_places(values)[text_of(value)] for value in values] for name, values in axes.items()
    }
    scores = [trial.result.scores[metric] for _, trial in trials]
    axes[metric], places[metric] = [f"{score:.4g}" for score in scores], spread_out(scores)
    return Chart(
        title=f"Which values lead to which {metric}",
        label=f"parallel coordinates of {len(trials)} trials over {', '.join(keys)} and {metric}",
        spec=layered("places", _layers(report), 320),
        data={
            "places": _columns([number for number, _ in trials], places),
            "ticks": _ticks(axes, places),
            "trials": trials_data(report),
        },
        wide=True,
    )


def _layers(report: SweepReport) -> list[Spec]:
    axis = {"orient": "top", "labelAngle": 0, "labelFontWeight": "bold", "labelLimit": 140}
    axis |= {"grid": False, "ticks": False, "domain": False}
    x = field("key", "nominal", sort=None, axis=axis)
    y = field("at", "quantitative", axis=None, scale={"domain": [-0.04, 1.04], "nice": False})
    line = {"x": x, "y": y, "detail": field("trial", "nominal")}
    rule = {"x": x, "y": {"aggregate": "min", **y}, "y2": {"aggregate": "max", "field": "at"}}
    text = {"x": x, "y": y, "text": field("value", "nominal")}
    mark = {"type": "text", "align": "left", "dx": 6}
    # Text over lines is readable only with an outline.
    rim = {**mark, "stroke": "var(--page)", "strokeWidth": 4, "strokeJoin": "round"}
    ticks: Spec = {"data": {"name": "ticks"}}
    return [
        {**ticks, "mark": {"type": "rule", "stroke": "var(--line)"}, "encoding": rule},
        {
            "params": [HOVER],
            "transform": [LOOKUP],
            "mark": TARGET,
            "encoding": {**line, "tooltip": tips(report)},
        },
        {
            "transform": [LOOKUP],
            "mark": {"type": "line", "strokeWidth": 1.6},
            "encoding": {**line, "color": colour_by_metric(report), "opacity": lit(0.75)},
        },
        {**ticks, "mark": rim, "encoding": text},
        {**ticks, "mark": {**mark, "fill": "var(--ink)"}, "encoding": text},
    ]


def _values(trials: Sequence[tuple[int, TrialReport]], key: str) -> list[Any]:
    return [trial.result.point[key] for _, trial in trials]


def _short(keys: Sequence[str]) -> list[str]:
    """Return the keys without their section where they remain distinct."""
    last = [key.rpartition(".")[2] for key in keys]
    counts = Counter(last)
    return [name if counts[name] == 1 else key for key, name in zip(keys, last, strict=True)]


def _columns(trials: Sequence[int], places: Mapping[str, Sequence[float]]) -> Columns:
    return {
        "trial": [number for _ in places for number in trials],
        "key": [name for name in places for _ in trials],
        "at": [round(at, 4) for of in places.values() for at in of],
    }


def _ticks(axes: Mapping[str, Sequence[Any]], places: Mapping[str, Sequence[float]]) -> Columns:
    """Return the ticks of each axis; where values are close, its ends and those that fit between them."""
    found: dict[str, list[Any]] = {"key": [], "at": [], "value": []}
    for name, values in axes.items():
        texts = [text_of(value) for value in values]
        scale = sorted({(at, text) for at, text in zip(places[name], texts, strict=True)})
        top, last = scale[-1][0], -1.0
        for at, text in scale:
            if at - last >= _CLOSEST and (at == top or top - at >= _CLOSEST):
                last = at
                for column, value in zip(found.values(), (name, round(at, 4), text), strict=True):
                    column.append(value)
    return found

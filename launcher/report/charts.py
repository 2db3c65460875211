"""Charts as Vega-Lite specs: plain dicts that refer to their data by name. Pure.

Colours are CSS variables of the page, so that one spec serves the light, dark and print styles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.report.contents import Mark, RunReport, Series

Spec = dict[str, Any]
Columns = Mapping[str, Sequence[Any]]
_LOG_FROM = 8.0
"""Ratio of the largest to the smallest loss above which the scale is logarithmic."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure other than the loss that is logged at every step."""

    name: str
    title: str
    form: str
    """Format of the numbers on the axis, in d3's notation."""
    log: bool
    """Whether a large range is drawn on a logarithmic scale; otherwise the axis starts at 0."""


RATE = Measure("rate", "learning rate", "~g", log=False)
SPEED = Measure("speed", "tokens per second", "~s", log=False)
NORM = Measure("norm", "gradient norm", "~g", log=True)
_COLOURS = {"training": "var(--c1)", "validation": "var(--c2)"}
X_TITLES = {"step": "step", "tokens": "tokens seen"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A spec with its data and a text alternative."""

    title: str
    label: str
    """Text alternative for screen readers."""
    spec: Spec
    data: Mapping[str, Columns]
    """Data sets by name; charts with the same name share the data."""
    wide: bool = False
    """Whether it takes the full width where two charts would fit."""


def field(name: str, kind: str, title: str | None = None, **more: Any) -> Spec:
    """Return the encoding of a column.

    Args:
        name: Name of the column.
        kind: Vega-Lite type, such as `quantitative`.
        title: Title of the axis, the legend or the tooltip line; None for none.
        **more: Other properties of the encoding.
    """
    return {"field": name, "type": kind, "title": title, **more}


def layered(data: str, layers: Sequence[Spec], height: int, **more: Any) -> Spec:
    """Return the spec of a layered chart with the width of its container.

    Args:
        data: Name of the data set.
        layers: Specs of the layers.
        height: Height in pixels.
        **more: Other properties of the spec.
    """
    return {"width": "container", "height": height, "data": {"name": data}, "layer": list(layers), **more}


def rounded(values: Sequence[float]) -> list[float]:
    """Round values to five significant digits; more would not be visible but double the page's size."""
    return [float(f"{value:.5g}") for value in values]


def y_scale(values: Sequence[float]) -> Spec:
    """Return the scale for losses, which is logarithmic if they differ by a large factor."""
    if values and min(values) > 0 and max(values) / min(values) > _LOG_FROM:
        return {"type": "log", "zero": False, "nice": False}
    return {"type": "linear", "zero": False}


def x_axis(x: str) -> Spec:
    """Return the encoding of the x axis, `step` or `tokens`."""
    axis = {"format": "~s", "tickCount": 6} if x == "tokens" else {"tickMinStep": 1, "format": "~d"}
    return field(x, "quantitative", X_TITLES[x], axis=axis, scale={"nice": False, "zero": x == "tokens"})


def run_loss(report: RunReport, x: str) -> Chart:
    """Return the chart of a run's training and validation loss, with its interruptions."""
    curves = report.curves
    every = [*curves.loss.values, *curves.validation.values]
    shown = [("training", curves.trend), ("validation", curves.validation)]
    kinds = [name for name, series in shown if series]
    colour = field(
        "kind",
        "nominal",
        None,
        scale={"domain": kinds, "range": [_COLOURS[kind] for kind in kinds]},
        legend={"orient": "top"},
    )
    y = field("loss", "quantitative", "loss", scale=y_scale(every))
    near = {
        "name": "near",
        "select": {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout"},
    }
    tips = [
        field("kind", "nominal", "loss of"),
        field("step", "quantitative", "step", format=","),
        field("tokens", "quantitative", "tokens seen", format=","),
        field("loss", "quantitative", "loss", format=".4f"),
    ]
    layers: list[Spec] = [
        {
            "data": {"name": "raw"},
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.3, "stroke": _COLOURS["training"]},
            "encoding": {"x": x_axis(x), "y": y},
        },
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x_axis(x), "y": y, "color": colour}},
        {
            "params": [near],
            "mark": {"type": "point", "filled": True, "size": 55},
            "encoding": {
                "x": x_axis(x),
                "y": y,
                "color": colour,
                "opacity": {
                    "condition": [
                        {"param": "near", "empty": False, "value": 1},
                        {"test": "datum.kind === 'validation'", "value": 1},
                    ],
                    "value": 0,
                },
                "tooltip": tips,
            },
        },
    ]
    data = {"kinds": _long(shown), "raw": _columns(curves.loss, "loss")}
    return Chart(
        title="Loss over steps" if x == "step" else "Loss over tokens",
        label=_curve_words(curves.trend, curves.validation, x),
        spec=layered("kinds", [*layers, *marked(report.marks, x)], 300),
        data=data | marks_data(report.marks),
    )


def run_measure(measure: Measure, series: Series, marks: Sequence[Mark]) -> Chart:
    """Return the chart of one measure over the steps of a run."""
    name, title = measure.name, measure.title
    scale = y_scale(series.values) if measure.log else {"zero": True}
    y = field("value", "quantitative", title, scale=scale, axis={"format": measure.form})
    tips = [
        field("step", "quantitative", "step", format=","),
        field("value", "quantitative", title, format=".4~g"),
    ]
    near = {
        "name": "near",
        "select": {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout"},
    }
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    layers: list[Spec] = [
        {"mark": {"type": "line", "stroke": "var(--c1)"}, "encoding": {"x": x_axis("step"), "y": y}},
        {
            "params": [near],
            "mark": {"type": "point", "filled": True, "size": 55, "color": "var(--c1)"},
            "encoding": {"x": x_axis("step"), "y": y, "opacity": shown, "tooltip": tips},
        },
    ]
    low, high, last = min(series.values), max(series.values), series.values[-1]
    return Chart(
        title=title[0].upper() + title[1:],
        label=f"{title} by step: between {low:.4g} and {high:.4g}, last value {last:.4g}",
        spec=layered(name, [*layers, *marked(marks, "step")], 180),
        data={name: _columns(series, "value")} | marks_data(marks),
    )


def marked(marks: Sequence[Mark], x: str) -> list[Spec]:
    """Return the layers that draw a vertical line at each interruption."""
    if not marks:
        return []
    rule = {"type": "rule", "stroke": "var(--warn)", "strokeDash": [4, 3], "strokeWidth": 1.5}
    handle = {"type": "point", "shape": "triangle-down", "filled": True, "size": 90, "color": "var(--warn)"}
    tips = [field("text", "nominal", "interrupted"), field("step", "quantitative", "step", format=",")]
    return [
        {"data": {"name": "marks"}, "mark": rule, "encoding": {"x": x_axis(x), "tooltip": tips}},
        {
            "data": {"name": "marks"},
            "mark": handle,
            "encoding": {"x": x_axis(x), "y": {"value": 0}, "tooltip": tips},
        },
    ]


def marks_data(marks: Sequence[Mark]) -> dict[str, Columns]:
    """Return the data for the layers of `marked`."""
    if not marks:
        return {}
    columns = {"step": [m.step for m in marks], "tokens": [m.tokens for m in marks]}
    return {"marks": {**columns, "text": [mark.text for mark in marks]}}


def _long(series: Sequence[tuple[str, Series]]) -> Columns:
    return {
        "kind": [name for name, one in series for _ in one.values],
        "step": [step for _, one in series for step in one.steps],
        "tokens": [tokens for _, one in series for tokens in one.tokens],
        "loss": [value for _, one in series for value in rounded(one.values)],
    }


def _columns(series: Series, name: str) -> Columns:
    return {"step": series.steps, "tokens": series.tokens, name: rounded(series.values)}


def _curve_words(training: Series, validation: Series, x: str) -> str:
    words = [f"loss over {X_TITLES[x]}s" if x == "step" else "loss over tokens"]
    if training:
        words.append(f"training from {training.values[0]:.4g} to {training.values[-1]:.4g}")
    if validation:
        words.append(f"validation from {validation.values[0]:.4g} to {validation.values[-1]:.4g}")
    return "; ".join(words)

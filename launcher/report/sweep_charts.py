"""The charts of a sweep: curves of all trials, parallel coordinates, effects, spread. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from launcher.report.charts import (
    X_TITLES,
    Chart,
    Columns,
    Spec,
    field,
    layered,
    rounded,
    x_axis,
    y_scale,
)
from launcher.report.contents import Series, SweepReport, TrialReport
from launcher.sweep.halving import setting_key, setting_of
from launcher.sweep.leaderboard import Effect, Leaderboard, Setting

_NAMED_SETTINGS = 8
"""Up to so many settings have a colour and a name each; more are coloured by the metric."""
_SPREAD_SETTINGS = 30
_EVEN_VALUES = 8
"""A numeric axis with more values than this is drawn to scale."""
_SCALE = ("#2f7fd1", "#8f8ba6", "#d9772b")
"""From the best to the worst: readable on white and on black, and without red or green."""


def text_of(value: Any) -> str:
    """A swept value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def setting_text(values: dict[str, Any]) -> str:
    """A setting in short, keys without their section."""
    words = [f"{key.rpartition('.')[2]}={text_of(value)}" for key, value in values.items()]
    return " ".join(words) or "the only setting"


def sweep_loss(report: SweepReport, of: str, x: str) -> Chart | None:
    """Loss of every trial over steps or tokens.

    Args:
        report: The sweep.
        of: `training` or `validation`.
        x: `step` or `tokens`.
    """
    curves = [(number, _series(trial, of)) for number, trial in enumerate(report.trials)]
    drawn = [(number, series) for number, series in curves if series]
    if not drawn:
        return None
    scale = y_scale([value for _, series in drawn for value in series.values])
    encoding = {
        "x": x_axis(x),
        "y": field("loss", "quantitative", "loss", scale=scale),
        "detail": field("trial", "nominal"),
    }
    line: Spec = {"type": "line", "strokeWidth": 1.5}
    if of == "validation":
        line["point"] = {"size": 18}
    return Chart(
        title=f"{of.capitalize()} loss over {'steps' if x == 'step' else 'tokens'}",
        label=f"{of} loss of {len(drawn)} trials over {X_TITLES[x]}; the table holds where each ended",
        spec=layered(
            of,
            [
                {
                    "params": [_hover()],
                    "mark": _wide_target(),
                    "encoding": {**encoding, "tooltip": _tips(report)},
                },
                {"mark": line, "encoding": {**encoding, "color": colour(report), "opacity": _lit()}},
            ],
            260,
            transform=[trial_lookup()],
        ),
        data={of: _all_points(drawn), "trials": trials_data(report)},
    )


def parallel_coordinates(report: SweepReport) -> Chart | None:
    """Every finished trial as a line through its swept values, to the metric."""
    board = report.board
    scored = [(n, t) for n, t in enumerate(report.trials) if board.metric in t.result.scores]
    if len(scored) < 2:
        return None
    places: dict[str, list[Any]] = {name: [] for name in ("trial", "key", "at", "value")}
    ticks: dict[str, list[Any]] = {name: [] for name in ("key", "at", "value")}
    keys = [key for key, values in board.axes.items() if len(values) > 1]
    for key in keys:
        scale = axis_positions([trial.result.point[key] for _, trial in scored])
        for number, trial in scored:
            value = trial.result.point[key]
            _add(places, trial=number, key=key, at=scale[text_of(value)], value=text_of(value))
        _add_ticks(ticks, key, scale)
    scores = [trial.result.scores[board.metric] for _, trial in scored]
    scale = {text_of(score): at for score, at in zip(scores, _linear(scores), strict=True)}
    for (number, _), score, at in zip(scored, scores, _linear(scores), strict=True):
        _add(places, trial=number, key=board.metric, at=at, value=f"{score:.4g}")
    _add_ticks(ticks, board.metric, scale)
    x = field(
        "key",
        "nominal",
        None,
        sort=None,
        axis={
            "labelAngle": 0,
            "grid": False,
            "ticks": False,
            "orient": "top",
            "domain": False,
            "labelFontWeight": "bold",
            "labelLimit": 120,
        },
    )
    y = field("at", "quantitative", None, axis=None, scale={"domain": [-0.04, 1.04], "nice": False})
    encoding = {"x": x, "y": y, "detail": field("trial", "nominal")}
    label_x = {**x, "bandPosition": 0.5}
    return Chart(
        title=f"Which values lead to which {board.metric}",
        label=f"parallel coordinates of {len(scored)} trials over {', '.join(keys)} and {board.metric}",
        spec=layered(
            "places",
            [
                {
                    "data": {"name": "ticks"},
                    "mark": {"type": "rule", "stroke": "var(--line)"},
                    "encoding": {
                        "x": x,
                        "y": {"aggregate": "min", **y},
                        "y2": {"aggregate": "max", "field": "at"},
                    },
                },
                {
                    "params": [_hover()],
                    "transform": [trial_lookup()],
                    "mark": _wide_target(),
                    "encoding": {**encoding, "tooltip": _tips(report)},
                },
                {
                    "transform": [trial_lookup()],
                    "mark": {"type": "line", "strokeWidth": 1.6},
                    "encoding": {**encoding, "color": colour(report, by_score=True), "opacity": _lit(0.75)},
                },
                {
                    "data": {"name": "ticks"},
                    "mark": {
                        "type": "text",
                        "align": "left",
                        "dx": 6,
                        "stroke": "var(--page)",
                        "strokeWidth": 4,
                        "strokeJoin": "round",
                    },
                    "encoding": {"x": label_x, "y": y, "text": field("value", "nominal")},
                },
                {
                    "data": {"name": "ticks"},
                    "mark": {"type": "text", "align": "left", "dx": 6, "fill": "var(--ink)"},
                    "encoding": {"x": label_x, "y": y, "text": field("value", "nominal")},
                },
            ],
            320,
        ),
        data={"places": places, "ticks": ticks, "trials": trials_data(report)},
        wide=True,
    )


def effect_chart(report: SweepReport, effect: Effect) -> Chart:
    """What one swept key does to the metric: every trial a point, every value's mean a line."""
    board = report.board
    values = [value for value, _, _ in effect.means]
    even = not _to_scale(values)
    x: Spec = (
        field(
            "value",
            "nominal",
            effect.key,
            sort=[text_of(value) for value in _in_order(values)],
            axis={"labelAngle": 0},
        )
        if even
        else field(
            "value",
            "quantitative",
            effect.key,
            scale={"type": _scale_type(values), "zero": False, "nice": False},
        )
    )
    y = field("score", "quantitative", board.metric, scale={"zero": False})
    as_drawn = text_of if even else lambda value: value
    scored = [(n, t) for n, t in enumerate(report.trials) if board.metric in t.result.scores]
    judged = [(n, t) for n, t in scored if any(t.result.point[effect.key] == value for value in values)]
    dots: Columns = {
        "trial": [number for number, _ in judged],
        "value": [as_drawn(trial.result.point[effect.key]) for _, trial in judged],
        "score": rounded([trial.result.scores[board.metric] for _, trial in judged]),
    }
    means: Columns = {
        "value": [as_drawn(value) for value, _, _ in effect.means],
        "score": rounded([mean for _, mean, _ in effect.means]),
        "trials": [number for _, _, number in effect.means],
    }
    mean_tips = [
        field("value", "nominal", effect.key),
        field("score", "quantitative", f"mean {board.metric}", format=".4g"),
        field("trials", "quantitative", "trials"),
    ]
    mean_mark: Spec = {"type": "tick", "thickness": 3, "width": 34, "color": "var(--ink)"}
    layers: list[Spec] = [
        {
            "data": {"name": f"dots {effect.key}"},
            "transform": [trial_lookup()],
            "mark": {"type": "point", "filled": True, "size": 48, "opacity": 0.65, "color": "var(--c1)"},
            "encoding": {"x": x, "y": y, "tooltip": _tips(report)},
        },
    ]
    if even or any(number > 1 for _, _, number in effect.means):
        layers.append({"mark": mean_mark, "encoding": {"x": x, "y": y, "tooltip": mean_tips}})
    words = ", ".join(f"{text_of(value)}: {mean:.4g}" for value, mean, _ in effect.means)
    return Chart(
        title=f"{effect.key}: {effect.share:.0%} of the variance",
        label=f"{board.metric} by {effect.key}; means: {words}",
        spec=layered(f"means {effect.key}", layers, 220),
        data={f"dots {effect.key}": dots, f"means {effect.key}": means, "trials": trials_data(report)},
    )


def spread_chart(report: SweepReport) -> Chart | None:
    """Every setting's trials over seeds and folds, beside its mean."""
    board = report.board
    repeated = [s for s in board.settings if len(_scores(s, board)) > 1][:_SPREAD_SETTINGS]
    if not repeated:
        return None
    numbers = {trial.result.name: number for number, trial in enumerate(report.trials)}
    names = [setting_text(setting.values) for setting in repeated]
    y = field("setting", "nominal", None, sort=names, axis={"labelLimit": 170, "grid": True})
    x = field("score", "quantitative", board.metric, scale={"zero": False})
    dots: dict[str, list[Any]] = {name: [] for name in ("trial", "setting", "score")}
    for name, setting in zip(names, repeated, strict=True):
        for trial in setting.trials:
            if board.metric in trial.scores:
                _add(dots, trial=numbers[trial.name], setting=name, score=trial.scores[board.metric])
    means: Columns = {"setting": names, "score": [setting.mean for setting in repeated]}
    tips = [field("setting", "nominal", "setting"), field("score", "quantitative", "mean", format=".4g")]
    return Chart(
        title=f"Spread of {board.metric} over seeds and folds",
        label=f"{board.metric} of every trial of {len(repeated)} settings, the best at the top",
        spec=layered(
            "spread",
            [
                {
                    "transform": [trial_lookup()],
                    "mark": {
                        "type": "point",
                        "filled": True,
                        "size": 55,
                        "opacity": 0.7,
                        "color": "var(--c1)",
                    },
                    "encoding": {"x": x, "y": y, "tooltip": _tips(report)},
                },
                {
                    "data": {"name": "spread means"},
                    "mark": {"type": "tick", "thickness": 3, "color": "var(--ink)"},
                    "encoding": {"x": x, "y": y, "tooltip": tips},
                },
            ],
            26 * len(names) + 20,
        ),
        data={"spread": dots, "spread means": means, "trials": trials_data(report)},
        wide=True,
    )


def axis_positions(values: Sequence[Any]) -> dict[str, float]:
    """Where values lie on an axis from 0 to 1: to scale if there are many numbers, else evenly."""
    ordered = _in_order(values)
    if _to_scale(ordered):
        log = _scale_type(ordered) == "log"
        places = _linear([math.log(value) if log else float(value) for value in ordered])
    else:
        places = _linear([float(number) for number in range(len(ordered))])
    return {text_of(value): at for value, at in zip(ordered, places, strict=True)}


def trials_data(report: SweepReport) -> Columns:
    """What the charts look up of a trial by its number."""
    scores = [trial.result.scores for trial in report.trials]
    metric = report.board.metric
    return {
        "trial": list(range(len(report.trials))),
        "label": [trial.label for trial in report.trials],
        "setting": [setting_text(setting_of(trial.result.point)) for trial in report.trials],
        "state": [trial.result.state.lower() for trial in report.trials],
        "metric": [round(of[metric], 6) if metric in of else None for of in scores],
    }


def trial_lookup() -> Spec:
    """Bring a trial's label, setting, state and metric to each of its rows."""
    return {
        "lookup": "trial",
        "from": {
            "data": {"name": "trials"},
            "key": "trial",
            "fields": ["label", "setting", "state", "metric"],
        },
    }


def colour(report: SweepReport, *, by_score: bool = False) -> Spec:
    """By setting where they are few, else by the metric; a trial without a score is grey."""
    board = report.board
    keys = list(dict.fromkeys(setting_key(trial.result.point) for trial in report.trials))
    if len(keys) <= _NAMED_SETTINGS and not by_score:
        names = [setting_text(setting.values) for setting in board.settings]
        palette = [f"var(--c{number})" for number in range(1, len(names) + 1)]
        legend = {"orient": "bottom", "columns": 2, "labelLimit": 200}
        return field("setting", "nominal", None, scale={"domain": names, "range": palette}, legend=legend)
    best_first = _SCALE if board.direction == "min" else tuple(reversed(_SCALE))
    legend = {
        "orient": "bottom",
        "type": "gradient",
        "gradientLength": 160,
        "format": ".4~g",
        "titleOrient": "left",
    }
    by_metric = field(
        "metric",
        "quantitative",
        board.metric,
        scale={"range": list(best_first), "zero": False, "interpolate": "rgb"},
        legend=legend,
    )
    return {"condition": {"test": "isValid(datum.metric)", **by_metric}, "value": "var(--faint)"}


def _series(trial: TrialReport, of: str) -> Series:
    return trial.curves.trend if of == "training" else trial.curves.validation


def _all_points(curves: Sequence[tuple[int, Series]]) -> Columns:
    return {
        "trial": [number for number, series in curves for _ in series.values],
        "step": [step for _, series in curves for step in series.steps],
        "tokens": [tokens for _, series in curves for tokens in series.tokens],
        "loss": [value for _, series in curves for value in rounded(series.values)],
    }


def _tips(report: SweepReport) -> list[Spec]:
    return [
        field("label", "nominal", "trial"),
        field("state", "nominal", "state"),
        field("metric", "quantitative", report.board.metric, format=".4g"),
    ]


def _hover() -> Spec:
    select = {"type": "point", "fields": ["trial"], "on": "pointerover", "clear": "pointerout"}
    return {"name": "hover", "select": select}


def _wide_target() -> Spec:
    """A line is too thin to point at."""
    return {"type": "line", "strokeWidth": 10, "stroke": "transparent"}


def _lit(otherwise: float = 1.0) -> Spec:
    """What is pointed at stands out."""
    return {"condition": {"param": "hover", "value": otherwise}, "value": 0.12}


def _scores(setting: Setting, board: Leaderboard) -> list[float]:
    return [trial.scores[board.metric] for trial in setting.trials if board.metric in trial.scores]


def _add(columns: dict[str, list[Any]], **values: Any) -> None:
    for name, value in values.items():
        columns[name].append(value)


def _add_ticks(ticks: dict[str, list[Any]], key: str, scale: dict[str, float]) -> None:
    """The values of an axis; where many lie close, the ends and what fits between."""
    last = -1.0
    ends = sorted(scale.items(), key=lambda item: item[1])
    for text, at in ends:
        final = (text, at) == ends[-1]
        if at - last >= 0.07 and (final or 1 - at >= 0.07):
            _add(ticks, key=key, at=at, value=text)
            last = at


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Each value once; numbers by size, everything else as it came."""
    once = list({text_of(value): value for value in values}.values())
    return sorted(once) if all(_is_number(value) for value in once) else once


def _to_scale(values: Sequence[Any]) -> bool:
    return len(values) > _EVEN_VALUES and all(_is_number(value) for value in values)


def _scale_type(values: Sequence[float]) -> str:
    return "log" if min(values) > 0 and max(values) / min(values) >= 20 else "linear"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _linear(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]

"""Charts of a sweep: curves of all trials, effect of each key and spread of the settings. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

from launcher.report.by_trial import (
    HOVER,
    LOOKUP,
    MEAN,
    TARGET,
    colour_by_setting,
    judged_trials,
    lit,
    setting_text,
    tips,
    trials_data,
)
from launcher.report.charts import X_TITLES, Chart, Columns, Spec, field, layered, rounded, x_axis, y_scale
from launcher.report.contents import Series, SweepReport, TrialReport
from launcher.report.scales import in_order, is_continuous, scale_type, text_of
from launcher.sweep.leaderboard import Effect

_SPREAD_SETTINGS = 30
"""Largest number of settings in the spread chart; the best ones are drawn."""
_DOT: Spec = {"type": "point", "filled": True, "size": 50, "opacity": 0.65, "color": "var(--c1)"}
CurveKind = Literal["training", "validation"]


def sweep_loss(report: SweepReport, of: CurveKind, x: str) -> Chart | None:
    """Return the chart of every trial's loss over steps or tokens; None if no trial has logged one.

    Args:
        report: The sweep.
        of: The loss to draw.
        x: `step` or `tokens`.
    """
    curves = [(number, series_of(trial, of)) for number, trial in enumerate(report.trials)]
    drawn = [(number, series) for number, series in curves if series]
    if not drawn:
        return None
    scale = y_scale([value for _, series in drawn for value in series.values])
    y = field("loss", "quantitative", "loss", scale=scale)
    encoding = {"x": x_axis(x), "y": y, "detail": field("trial", "nominal")}
    seen = {**encoding, "color": colour_by_setting(report), "opacity": lit()}
    layers: list[Spec] = [
        {"params": [HOVER], "mark": TARGET, "encoding": {**encoding, "tooltip": tips(report)}},
        {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": seen},
    ]
    if of == "validation":
        # A trial with a single validation has no line, so each validation is also drawn as a dot.
        unnamed = colour_by_setting(report, legend=False)
        dot = {"type": "point", "filled": True, "size": 24}
        layers.append({"mark": dot, "encoding": {**seen, "color": unnamed}})
    return Chart(
        title=f"{of.capitalize()} loss over {'steps' if x == 'step' else 'tokens'}",
        label=f"{of} loss of {len(drawn)} trials by {X_TITLES[x]}; the table has the final values",
        spec=layered(of, layers, 260, transform=[LOOKUP], resolve={"legend": {"color": "independent"}}),
        data={of: _points(drawn), "trials": trials_data(report)},
    )


def effect_chart(report: SweepReport, effect: Effect) -> Chart:
    """Return the chart of a key's effect on the metric: a point per trial, a bar for each value's mean."""
    metric, values = report.board.metric, [value for value, _, _ in effect.means]
    to_scale = is_continuous(values)
    y = field("score", "quantitative", metric, scale={"zero": False})
    encoding = {"x": _effect_axis(effect.key, values), "y": y}
    trials = [(n, trial) for n, trial in judged_trials(report) if trial.result.point[effect.key] in values]
    dots: Columns = {
        "trial": [number for number, _ in trials],
        "value": [_drawn(trial.result.point[effect.key], to_scale) for _, trial in trials],
        "score": rounded([trial.result.scores[metric] for _, trial in trials]),
    }
    means: Columns = {
        "value": [_drawn(value, to_scale) for value in values],
        "score": rounded([mean for _, mean, _ in effect.means]),
        "trials": [number for _, _, number in effect.means],
    }
    mean_tips = [
        field("value", "nominal", effect.key),
        field("score", "quantitative", f"mean {metric}", format=".4g"),
        field("trials", "quantitative", "trials"),
    ]
    layers: list[Spec] = [
        {
            "data": {"name": f"dots {effect.key}"},
            "transform": [LOOKUP],
            "mark": _DOT,
            "encoding": {**encoding, "tooltip": tips(report)},
        }
    ]
    # With one trial per value, the mean is the trial's point.
    if any(number > 1 for _, _, number in effect.means):
        layers.append({"mark": {**MEAN, "width": 34}, "encoding": {**encoding, "tooltip": mean_tips}})
    words = ", ".join(f"{text_of(value)}: {mean:.4g}" for value, mean, _ in effect.means)
    return Chart(
        title=f"{effect.key}: {effect.share:.0%} of the variance",
        label=f"{metric} by {effect.key}; means: {words}",
        spec=layered(f"means {effect.key}", layers, 220),
        data={f"dots {effect.key}": dots, f"means {effect.key}": means, "trials": trials_data(report)},
    )


def spread_chart(report: SweepReport) -> Chart | None:
    """Return the chart of each setting's trials over seeds and folds; None if no setting has two trials."""
    metric = report.board.metric
    found = [
        (setting_text(setting.values), setting.mean, [t for t in setting.trials if metric in t.scores])
        for setting in report.board.settings
    ]
    repeated = [entry for entry in found if len(entry[2]) > 1][:_SPREAD_SETTINGS]
    if not repeated:
        return None
    numbers = {trial.result.name: number for number, trial in enumerate(report.trials)}
    names = [name for name, _, _ in repeated]
    y = field("setting", "nominal", sort=names, axis={"labelLimit": 170, "grid": True})
    encoding = {"x": field("score", "quantitative", metric, scale={"zero": False}), "y": y}
    mean_tips = [field("setting", "nominal", "setting"), field("score", "quantitative", "mean", format=".4g")]
    dots: Columns = {
        "trial": [numbers[trial.name] for _, _, trials in repeated for trial in trials],
        "setting": [name for name, _, trials in repeated for _ in trials],
        "score": rounded([trial.scores[metric] for _, _, trials in repeated for trial in trials]),
    }
    layers: list[Spec] = [
        {"transform": [LOOKUP], "mark": _DOT, "encoding": {**encoding, "tooltip": tips(report)}},
        {"data": {"name": "spread means"}, "mark": MEAN, "encoding": {**encoding, "tooltip": mean_tips}},
    ]
    return Chart(
        title=f"Spread of {metric} over seeds and folds",
        label=f"{metric} of every trial of {len(repeated)} settings, the best at the top",
        spec=layered("spread", layers, 26 * len(names) + 20),
        data={
            "spread": dots,
            "spread means": {"setting": names, "score": [mean for _, mean, _ in repeated]},
            "trials": trials_data(report),
        },
        wide=True,
    )


def series_of(trial: TrialReport, of: CurveKind) -> Series:
    """Return the curve of a trial that is drawn."""
    return trial.curves.trend if of == "training" else trial.curves.validation


def _effect_axis(key: str, values: Sequence[Any]) -> Spec:
    if is_continuous(values):
        scale = {"type": scale_type(values), "zero": False, "nice": False}
        return field("value", "quantitative", key, scale=scale, axis={"format": "~g", "labelOverlap": True})
    order = [text_of(value) for value in in_order(values)]
    return field("value", "nominal", key, sort=order, axis={"labelAngle": 0})


def _drawn(value: Any, to_scale: bool) -> Any:
    return value if to_scale else text_of(value)


def _points(curves: Sequence[tuple[int, Series]]) -> Columns:
    return {
        "trial": [number for number, series in curves for _ in series.values],
        "step": [step for _, series in curves for step in series.steps],
        "tokens": [tokens for _, series in curves for tokens in series.tokens],
        "loss": [value for _, series in curves for value in rounded(series.values)],
    }

"""Shared parts of a sweep's charts: data of the trials, colours and tooltips. Pure."""

from typing import Any

from launcher.node.halving import setting_key, setting_of
from launcher.report.charts import Columns, Spec, field
from launcher.report.contents import SweepReport, TrialReport
from launcher.report.scales import text_of

_NAMED_SETTINGS = 8
"""Largest number of settings with a colour and a legend entry each; more are coloured by the metric."""
_BEST_TO_WORST = ("#2f7fd1", "#8f8ba6", "#d9772b")
"""Colours from best to worst: readable on white and black, without a red-green contrast."""
LOOKUP: Spec = {
    "lookup": "trial",
    "from": {"data": {"name": "trials"}, "key": "trial", "fields": ["label", "setting", "state", "metric"]},
}
"""Vega-Lite transform that adds a trial's label, setting, state and metric to each of its rows."""
HOVER: Spec = {
    "name": "hover",
    "select": {"type": "point", "fields": ["trial"], "on": "pointerover", "clear": "pointerout"},
}
TARGET: Spec = {"type": "line", "strokeWidth": 10, "stroke": "transparent"}
"""An invisible wide line over each curve, because the curve itself is too thin to point at."""
MEAN: Spec = {"type": "tick", "thickness": 3, "color": "var(--ink)"}


def setting_text(values: dict[str, Any]) -> str:
    """Return a short text for a setting, with keys without their section."""
    words = [f"{key.rpartition('.')[2]}={text_of(value)}" for key, value in values.items()]
    return " ".join(words) or "the only setting"


def judged_trials(report: SweepReport) -> list[tuple[int, TrialReport]]:
    """Return the trials with a score and their numbers.

    A refit is left out, because it was trained on the held-out rows.
    """
    return [
        (number, trial)
        for number, trial in enumerate(report.trials)
        if report.board.metric in trial.result.scores and trial.result.point.get("cv.fold", 0) is not None
    ]


def trials_data(report: SweepReport) -> Columns:
    """Return the columns that the charts look up by a trial's number."""
    scores = [trial.result.scores for trial in report.trials]
    metric = report.board.metric
    return {
        "trial": list(range(len(report.trials))),
        "label": [trial.label for trial in report.trials],
        "setting": [setting_text(setting_of(trial.result.point)) for trial in report.trials],
        "state": [trial.result.state.lower() for trial in report.trials],
        "metric": [round(of[metric], 6) if metric in of else None for of in scores],
    }


def tips(report: SweepReport) -> list[Spec]:
    """Return the tooltip that identifies a trial."""
    return [
        field("label", "nominal", "trial"),
        field("state", "nominal", "state"),
        field("metric", "quantitative", report.board.metric, format=".4g"),
    ]


def lit(otherwise: float = 1.0) -> Spec:
    """Return the opacity encoding that dims all trials except the one under the pointer.

    Args:
        otherwise: Opacity of the trial under the pointer, and of all if there is none.
    """
    return {"condition": {"param": "hover", "value": otherwise}, "value": 0.12}


def colour_by_setting(report: SweepReport, *, legend: bool = True) -> Spec:
    """Return the colour encoding: one colour per setting if there are few settings, else by the metric."""
    names = [setting_text(setting.values) for setting in report.board.settings]
    if len({setting_key(trial.result.point) for trial in report.trials}) > _NAMED_SETTINGS:
        return colour_by_metric(report, legend=legend)
    scale = {"domain": names, "range": [f"var(--c{number})" for number in range(1, len(names) + 1)]}
    shown = {"orient": "bottom", "columns": 2, "labelLimit": 200} if legend else None
    return field("setting", "nominal", None, scale=scale, legend=shown)


def colour_by_metric(report: SweepReport, *, legend: bool = True) -> Spec:
    """Return the colour encoding from the best to the worst metric; a trial without a score is grey."""
    colours = list(_BEST_TO_WORST if report.board.direction == "min" else reversed(_BEST_TO_WORST))
    scale = {"range": colours, "zero": False, "interpolate": "rgb"}
    bar = {"orient": "bottom", "type": "gradient", "gradientLength": 160, "format": ".4~g"}
    shown = bar if legend else None
    by_metric = field("metric", "quantitative", report.board.metric, scale=scale, legend=shown)
    return {"condition": {"test": "isValid(datum.metric)", **by_metric}, "value": "var(--faint)"}

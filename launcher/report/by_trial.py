"""What the charts of a sweep share: trials as data, their colours, and what pointing at one shows. Pure."""

from typing import Any

from launcher.node.halving import setting_key, setting_of
from launcher.report.charts import Columns, Spec, field
from launcher.report.contents import SweepReport, TrialReport
from launcher.report.scales import text_of

_NAMED_SETTINGS = 8
"""Up to so many settings have a colour and a name each; more are coloured by the metric."""
_BEST_TO_WORST = ("#2f7fd1", "#8f8ba6", "#d9772b")
"""Readable on white and on black, and without red against green."""
LOOKUP: Spec = {
    "lookup": "trial",
    "from": {"data": {"name": "trials"}, "key": "trial", "fields": ["label", "setting", "state", "metric"]},
}
"""Brings a trial's label, setting, state and metric to each of its rows."""
HOVER: Spec = {
    "name": "hover",
    "select": {"type": "point", "fields": ["trial"], "on": "pointerover", "clear": "pointerout"},
}
TARGET: Spec = {"type": "line", "strokeWidth": 10, "stroke": "transparent"}
"""A line is too thin to point at: this one lies over it."""
MEAN: Spec = {"type": "tick", "thickness": 3, "color": "var(--ink)"}


def setting_text(values: dict[str, Any]) -> str:
    """A setting in short, keys without their section."""
    words = [f"{key.rpartition('.')[2]}={text_of(value)}" for key, value in values.items()]
    return " ".join(words) or "the only setting"


def judged_trials(report: SweepReport) -> list[tuple[int, TrialReport]]:
    """The trials that have a score, each with its number; a refit has seen the held-out rows and has none."""
    return [
        (number, trial)
        for number, trial in enumerate(report.trials)
        if report.board.metric in trial.result.scores and trial.result.point.get("cv.fold", 0) is not None
    ]


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


def tips(report: SweepReport) -> list[Spec]:
    """Which trial it is that one points at."""
    return [
        field("label", "nominal", "trial"),
        field("state", "nominal", "state"),
        field("metric", "quantitative", report.board.metric, format=".4g"),
    ]


def lit(otherwise: float = 1.0) -> Spec:
    """What is pointed at stands out."""
    return {"condition": {"param": "hover", "value": otherwise}, "value": 0.12}


def colour_by_setting(report: SweepReport, *, legend: bool = True) -> Spec:
    """A colour and a name for each setting where they are few, else by the metric."""
    names = [setting_text(setting.values) for setting in report.board.settings]
    if len({setting_key(trial.result.point) for trial in report.trials}) > _NAMED_SETTINGS:
        return colour_by_metric(report, legend=legend)
    scale = {"domain": names, "range": [f"var(--c{number})" for number in range(1, len(names) + 1)]}
    shown = {"orient": "bottom", "columns": 2, "labelLimit": 200} if legend else None
    return field("setting", "nominal", None, scale=scale, legend=shown)


def colour_by_metric(report: SweepReport, *, legend: bool = True) -> Spec:
    """From the best to the worst; a trial without a score is grey."""
    colours = list(_BEST_TO_WORST if report.board.direction == "min" else reversed(_BEST_TO_WORST))
    scale = {"range": colours, "zero": False, "interpolate": "rgb"}
    bar = {"orient": "bottom", "type": "gradient", "gradientLength": 160, "format": ".4~g"}
    shown = bar if legend else None
    by_metric = field("metric", "quantitative", report.board.metric, scale=scale, legend=shown)
    return {"condition": {"test": "isValid(datum.metric)", **by_metric}, "value": "var(--faint)"}

"""Formats values, sentences and tables that several pages share. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from launcher.report.contents import Score, Series, Start
from launcher.report.layout import MISSING, Cell, Table, table
from launcher.report.starts import SILENT, name_of
from launcher.words import duration

MEASURE_NAMES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
}
SET_NAMES = {"task": "the task", "general": "general knowledge"}


def number(value: float | None, form: str = ".4g") -> Cell:
    """Return the cell of a number."""
    return MISSING if value is None else Cell(format(value, form), value)


def seconds(value: float | None) -> Cell:
    """Return the cell of a duration in seconds."""
    return MISSING if value is None else Cell(duration(value), value)


def moment(value: float | None) -> Cell:
    """Return the cell of a time in seconds since the epoch, in local time."""
    if value is None:
        return MISSING
    return Cell(datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S"), value)


def gigabytes(nbytes: float | None) -> Cell:
    """Return the cell of a size in bytes."""
    if nbytes is None:
        return MISSING
    return Cell(f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB", nbytes)


def config_text(value: Any) -> str:
    """Return a config value as text on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def config_table(caption: str, config: Mapping[str, Any]) -> Table:
    """Return a collapsed table of config keys and values."""
    rows = [(Cell(key), Cell(config_text(value))) for key, value in config.items()]
    return table(f"{caption} ({len(rows)} keys)", ("key", "value"), rows, folded=True)


def change(score: Score) -> tuple[Cell, bool | None]:
    """Return the difference from the base model and whether it is an improvement; None without a base."""
    if score.base is None:
        return MISSING, None
    difference = score.tuned - score.base
    better = difference < 0 if score.direction == "min" else difference > 0
    return Cell(f"{difference:+.4g}", difference, badge="better" if better else "worse"), better


def score_sentence(scores: Sequence[Score]) -> str:
    """Return a sentence that compares the base and the tuned model on each data set."""
    return "; ".join(_sentence(score) for score in scores if score.measure in ("loss", "accuracy"))


def _sentence(score: Score) -> str:
    of = f"{score.measure} on {SET_NAMES[score.of]} ({score.rows} rows)"
    if score.base is None:
        return f"{of} is {score.tuned:.4g}; the base model was not evaluated"
    cell, better = change(score)
    verb = "better" if better else "worse"
    return f"{of} went from {score.base:.4g} to {score.tuned:.4g} ({cell.text}, {verb})"


def series_table(caption: str, columns: Mapping[str, Series], x: str = "step") -> Table:
    """Return the table of a chart's points, one row per step or number of tokens.

    Args:
        caption: Caption of the table.
        columns: Curves by the heading of their column.
        x: `step` or `tokens`.
    """
    places = {name: series.steps if x == "step" else series.tokens for name, series in columns.items()}
    values = {name: dict(zip(places[name], columns[name].values, strict=True)) for name in columns}
    rows = [
        [Cell(f"{at:,}", at), *(number(of[at]) if at in of else MISSING for of in values.values())]
        for at in sorted({at for place in places.values() for at in place})
    ]
    return table(caption, (x, *columns), rows)


def starts_table(starts: Sequence[Start], *, alive: bool) -> Table:
    """Return the table of all starts with their end and the time lost."""
    last = starts[-1] if starts else None
    rows = [
        (
            Cell(name_of(start), start.attempt + start.restart / 1000),
            moment(start.began),
            Cell(start.job_id) if start.job_id else MISSING,
            Cell(start.nodes) if start.nodes else MISSING,
            number(start.ranks, "d"),
            Cell(f"{start.from_step} to {start.to_step}", start.from_step),
            seconds(start.held_s),
            number(start.redone_steps, "d"),
            seconds(start.lost_s),
            Cell(start.ended or ("running" if alive and start is last else SILENT)),
        )
        for start in starts
    ]
    head = (
        "start",
        "time",
        "job",
        "nodes",
        "ranks",
        "steps",
        "duration",
        "repeated steps",
        "time lost",
        "end",
    )
    return table("All starts of the ranks", head, rows)


def lost_sentence(starts: Sequence[Start]) -> str:
    """Return a sentence about the time lost to interruptions."""
    if len(starts) < 2:
        return "No interruptions." if starts else "The run has not started yet."
    lost_s = sum(start.lost_s for start in starts)
    redone = sum(start.redone_steps for start in starts)
    held_s = sum(start.held_s for start in starts)
    return (
        f"{len(starts) - 1} interruption(s) cost {duration(lost_s)}: restarting, waiting and {redone}"
        f" repeated step(s). The total duration of all starts is {duration(held_s)}."
    )

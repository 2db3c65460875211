"""Values as a reader wants to see them. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from launcher.report.contents import Score, Series, Start
from launcher.report.layout import MISSING, Cell, Table, table
from launcher.report.starts import name_of
from launcher.words import duration

MEASURE_NAMES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
}
SET_NAMES = {"task": "the task", "general": "general knowledge"}
SILENT = "killed without a word"


def number(value: float | None, form: str = ".4g") -> Cell:
    """A number that sorts as one."""
    return MISSING if value is None else Cell(format(value, form), value)


def seconds(value: float | None) -> Cell:
    """A span of time."""
    return MISSING if value is None else Cell(duration(value), value)


def moment(value: float | None) -> Cell:
    """A point in time, as the reader's clock shows it."""
    if value is None:
        return MISSING
    return Cell(datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S"), value)


def gigabytes(nbytes: float | None) -> Cell:
    """A size on disk."""
    if nbytes is None:
        return MISSING
    return Cell(f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB", nbytes)


def config_text(value: Any) -> str:
    """A config's value as YAML would have it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def config_table(caption: str, config: Mapping[str, Any]) -> Table:
    """Keys and values, folded."""
    rows = [(Cell(key), Cell(config_text(value))) for key, value in config.items()]
    return table(f"{caption} ({len(rows)} keys)", ("key", "value"), rows, folded=True)


def change(score: Score) -> tuple[Cell, bool | None]:
    """The difference that the tuning made, and whether it is for the better."""
    if score.base is None:
        return MISSING, None
    difference = score.tuned - score.base
    better = difference < 0 if score.direction == "min" else difference > 0
    return Cell(f"{difference:+.4g}", difference, badge="better" if better else "worse"), better


def score_sentence(scores: Sequence[Score]) -> str:
    """Base against tuned in words, the task first, then what was forgotten."""
    said = [_said(score) for score in scores if score.measure in ("loss", "accuracy")]
    return "; ".join(said)


def _said(score: Score) -> str:
    of = f"{score.measure} on {SET_NAMES[score.of]} ({score.rows} rows)"
    if score.base is None:
        return f"{of} is {score.tuned:.4g}; the base model was not assessed"
    cell, better = change(score)
    verb = "better" if better else "worse"
    return f"{of} went from {score.base:.4g} to {score.tuned:.4g} ({cell.text}, {verb})"


def series_table(caption: str, columns: Mapping[str, Series], x: str = "step") -> Table:
    """The drawn points of curves that belong together, one row per step, or per number of tokens."""
    places = {name: series.steps if x == "step" else series.tokens for name, series in columns.items()}
    values = {name: dict(zip(places[name], columns[name].values, strict=True)) for name in columns}
    rows = [
        [Cell(f"{at:,}", at), *(number(of[at]) if at in of else MISSING for of in values.values())]
        for at in sorted({at for place in places.values() for at in place})
    ]
    return table(caption, (x, *columns), rows)


def starts_table(starts: Sequence[Start], *, alive: bool) -> Table:
    """Every start with its reason and its cost."""
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
            Cell(start.ended or ("goes on" if alive and start is last else SILENT)),
        )
        for start in starts
    ]
    head = (
        "start",
        "at",
        "job",
        "nodes",
        "ranks",
        "steps",
        "held",
        "steps redone",
        "time lost",
        "why it ended",
    )
    return table("Every start of the ranks", head, rows)


def lost_sentence(starts: Sequence[Start]) -> str:
    """What interruptions cost."""
    if len(starts) < 2:
        return "Nothing interrupted it." if starts else "It has not started yet."
    lost_s = sum(start.lost_s for start in starts)
    redone = sum(start.redone_steps for start in starts)
    held_s = sum(start.held_s for start in starts)
    return (
        f"{len(starts) - 1} interruption(s) cost {duration(lost_s)}: starting again, waiting, and {redone}"
        f" step(s) that were made twice. All starts together held their ranks for {duration(held_s)}."
    )

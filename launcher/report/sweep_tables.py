"""The tables of a sweep's report. Pure."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from launcher.node.halving import RungDecision
from launcher.records.points import REPEATS
from launcher.report.by_trial import setting_text
from launcher.report.contents import Score, SweepReport, TrialReport
from launcher.report.layout import MISSING, Cell, Table, table
from launcher.report.scales import is_number, text_of
from launcher.report.starts import SILENT, name_of
from launcher.report.words import MEASURE_NAMES, change, config_table, config_text, number, seconds
from launcher.status.state import ALIVE
from launcher.sweep.leaderboard import Effect, Leaderboard, Setting
from launcher.sweep.results import TrialResult


def value_cell(value: Any) -> Cell:
    """Return the cell of a swept value."""
    return Cell(text_of(value), value if is_number(value) else None)


def board_table(board: Leaderboard) -> Table:
    """Return the table of the settings, best first."""
    keys = [key for key in board.axes if key not in REPEATS]
    pooled = any(setting.score != setting.mean for setting in board.settings)
    head = ["rank", *keys, "finished", f"{board.metric}, mean", "sd", *(["score"] if pooled else [])]
    head += ["time", "rank-hours", "tokens/s", "peak memory"]
    rows = []
    for place, setting in enumerate(board.settings, 1):
        ranked = setting.score is not None
        rank = Cell(str(place), place, badge="best" if place == 1 else None) if ranked else MISSING
        score = [number(setting.score)] if pooled else []
        values = [value_cell(setting.values[key]) for key in keys]
        finished = Cell(f"{setting.finished} of {len(setting.trials)}", setting.finished)
        rows.append([rank, *values, finished, number(setting.mean), _sd(setting), *score, *_cost(setting)])
    return table("Settings", head, rows)


def trials_table(report: SweepReport) -> Table:
    """Return the table of all trials."""
    board = report.board
    rows = [
        (
            Cell(trial.result.name),
            *(value_cell(trial.result.point[key]) for key in board.axes),
            Cell(trial.result.state.lower()),
            Cell(str(trial.result.step), trial.result.step),
            _score(trial.result, board.metric),
            Cell(trial.result.why),
        )
        for trial in report.trials
    ]
    head = ("trial", *board.axes, "state", "step", board.metric, "reason")
    return table(f"All {len(rows)} trials", head, rows, folded=True)


def curve_table(report: SweepReport, of: str) -> Table:
    """Return the table of each trial's first, last and lowest loss."""
    rows = []
    for trial in report.trials:
        series = trial.curves.loss if of == "training" else trial.curves.validation
        if not series:
            continue
        low = min(series.values)
        at = series.steps[series.values.index(low)]
        ends = (number(series.values[0]), number(series.values[-1]), number(low), Cell(str(at), at))
        rows.append((Cell(trial.label), *ends, Cell(f"{series.tokens[-1]:,}", series.tokens[-1])))
    head = ("trial", "first", "last", "lowest", "at step", "tokens seen")
    return table(f"{of.capitalize()} losses", head, rows)


def effect_table(board: Leaderboard, effect: Effect) -> Table:
    """Return the table of the metric's mean for each value of a key."""
    rows = [(value_cell(value), number(mean), Cell(str(count), count)) for value, mean, count in effect.means]
    return table(f"{board.metric} by {effect.key}", (effect.key, f"mean {board.metric}", "trials"), rows)


def spread_table(board: Leaderboard) -> Table:
    """Return the table of each setting's mean and spread."""
    rows = [
        (
            Cell(setting_text(setting.values)),
            number(setting.mean),
            _sd(setting),
            *_ends(setting, board.metric),
        )
        for setting in board.settings
        if setting.mean is not None
    ]
    return table(f"{board.metric} by setting", ("setting", "mean", "sd", "lowest", "highest"), rows)


def halving_tables(report: SweepReport) -> tuple[Table, ...]:
    """Return one table per decision: trials that continued, and those that were stopped with the reason."""
    labels = {trial.result.name: trial.label for trial in report.trials}
    return tuple(_decision(decision, labels) for decision in report.decisions)


def _decision(decision: RungDecision, labels: Mapping[str, str]) -> Table:
    rows = [(Cell(labels[name]), Cell("continued"), Cell("among the best")) for name in decision.kept]
    rows += [(Cell(labels[name]), Cell("stopped"), Cell(why)) for name, why in decision.dropped.items()]
    kept = f"{len(decision.kept)} of {len(rows)} continued"
    return table(
        f"Step {decision.step}: {kept}", ("trial", "decision", "reason"), rows, folded=len(rows) > 12
    )


def scores_table(report: SweepReport) -> Table | None:
    """Return the scores of the base model and of each setting; None if no finished trial was evaluated."""
    scores = {trial.result.name: trial.scores for trial in report.trials if trial.scores}
    if not scores:
        return None
    # Perplexity has the same information as the loss.
    kinds = list(
        dict.fromkeys((s.of, s.measure) for f in scores.values() for s in f if s.measure != "perplexity")
    )
    settings = [
        (setting_text(s.values), [scores[t.name] for t in s.trials if t.name in scores])
        for s in report.board.settings
    ]
    everybody = [found for _, founds in settings for found in founds]
    rows = [(Cell("base model"), *(_base(everybody, kind) for kind in kinds))]
    rows += [(Cell(name), *(_tuned(founds, kind) for kind in kinds)) for name, founds in settings if founds]
    head = ("setting", *(f"{of} {MEASURE_NAMES[measure]}" for of, measure in kinds))
    return table("Held-out rows, base and tuned", head, rows)


def lost_table(caption: str, trials: Sequence[TrialReport], *, folded: bool = False) -> Table:
    """Return the table of the starts of each trial and the time lost.

    Args:
        caption: Caption of the table.
        trials: Trials to list.
        folded: Whether the table is collapsed at first.
    """
    rows = [
        (
            Cell(trial.label, note=trial.result.name),
            Cell(trial.result.state.lower()),
            Cell(str(len(trial.starts)), len(trial.starts)),
            seconds(sum(start.held_s for start in trial.starts)),
            number(sum(start.redone_steps for start in trial.starts), "d"),
            seconds(sum(start.lost_s for start in trial.starts)),
            Cell(_endings(trial)),
        )
        for trial in trials
    ]
    head = ("trial", "state", "starts", "duration", "repeated steps", "time lost", "end of each")
    return table(caption, head, rows, folded=folded)


def difference_table(report: SweepReport) -> Table:
    """Return the table of the config keys that differ between trials."""
    keys = _differing(report)
    rows = [
        (Cell(trial.result.name), *(_config_cell(trial.config, key) for key in keys))
        for trial in report.trials
    ]
    return table(f"Differences between trials ({len(keys)} keys)", ("trial", *keys), rows, folded=True)


def common_table(report: SweepReport) -> Table:
    """Return the table of the config keys with the same value in all trials."""
    differing = set(_differing(report))
    first = report.trials[0].config if report.trials else {}
    same = {key: value for key, value in first.items() if key not in differing}
    return config_table("Common to all trials", same)


def _differing(report: SweepReport) -> list[str]:
    values: dict[str, set[str]] = {}
    for trial in report.trials:
        for key, value in trial.config.items():
            values.setdefault(key, set()).add(json.dumps(value))
    everywhere = [trial.config.keys() for trial in report.trials]
    return [key for key, found in values.items() if len(found) > 1 or not all(key in k for k in everywhere)]


def _config_cell(config: Mapping[str, Any], key: str) -> Cell:
    if key not in config:
        return MISSING
    value = config[key]
    return Cell(config_text(value), value if is_number(value) else None)


def _sd(setting: Setting) -> Cell:
    return MISSING if setting.sd is None else Cell(f"± {setting.sd:.2g}", setting.sd)


def _score(result: TrialResult, metric: str) -> Cell:
    return number(result.scores[metric]) if metric in result.scores else MISSING


def _ends(setting: Setting, metric: str) -> tuple[Cell, Cell]:
    scores = [trial.scores[metric] for trial in setting.trials if metric in trial.scores]
    return number(min(scores)), number(max(scores))


def _cost(setting: Setting) -> tuple[Cell, Cell, Cell, Cell]:
    """Return mean time, total rank-hours, mean speed and largest memory of a setting's finished trials."""
    times = [trial.allocated_s for trial in setting.trials if trial.allocated_s is not None]
    hours = [trial.rank_hours for trial in setting.trials if trial.rank_hours is not None]
    speeds = [trial.tokens_per_s for trial in setting.trials if trial.tokens_per_s is not None]
    peaks = [trial.peak_gb for trial in setting.trials if trial.peak_gb is not None]
    return (
        seconds(fmean(times) if times else None),
        number(sum(hours) if hours else None, ".3g"),
        number(fmean(speeds) if speeds else None, ",.0f"),
        Cell(f"{max(peaks):.2f} GB", max(peaks)) if peaks else MISSING,
    )


def _base(founds: Sequence[Sequence[Score]], kind: tuple[str, str]) -> Cell:
    values = [s.base for found in founds for s in found if (s.of, s.measure) == kind and s.base is not None]
    return number(fmean(values) if values else None)


def _tuned(founds: Sequence[Sequence[Score]], kind: tuple[str, str]) -> Cell:
    scores = [s for found in founds for s in found if (s.of, s.measure) == kind]
    if not scores:
        return MISSING
    tuned = fmean(score.tuned for score in scores)
    bases = [score.base for score in scores if score.base is not None]
    if len(bases) < len(scores):
        return number(tuned)
    mean = Score(
        of=kind[0],
        rows=scores[0].rows,
        measure=kind[1],
        direction=scores[0].direction,
        base=fmean(bases),
        tuned=tuned,
    )
    difference, _ = change(mean)
    return Cell(f"{tuned:.4g}", tuned, badge=difference.badge, note=difference.text)


def _endings(trial: TrialReport) -> str:
    if not trial.starts:
        return trial.result.why
    alive = trial.result.state in ALIVE
    endings = []
    for start in trial.starts:
        going = alive and start is trial.starts[-1]
        endings.append(f"{name_of(start)}: {start.ended or ('running' if going else SILENT)}")
    return "; ".join(endings)

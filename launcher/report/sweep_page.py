"""Builds the page of a sweep's report. Pure."""

from collections.abc import Sequence

from launcher.report.contents import SweepReport, TrialReport
from launcher.report.layout import Figure, Page, PageSection, Table, Tile
from launcher.report.parallel import parallel_coordinates
from launcher.report.scales import text_of
from launcher.report.sweep_charts import CurveKind, effect_chart, spread_chart, sweep_loss
from launcher.report.sweep_tables import (
    board_table,
    common_table,
    curve_table,
    difference_table,
    effect_table,
    halving_tables,
    lost_table,
    scores_table,
    spread_table,
    trials_table,
)
from launcher.status.state import ALIVE
from launcher.words import duration
from train.rundir import STOPPED_AT_RUNG


def sweep_page(report: SweepReport) -> Page:
    """Return the page of a sweep in any state."""
    sections = (
        _board(report),
        _curves(report),
        _parallel(report),
        _effects(report),
        _spread(report),
        _halving(report),
        _scores(report),
        _starts(report),
        _configs(report),
    )
    return Page(
        kind="sweep",
        name=report.board.sweep,
        state=_state(report),
        verdict=_verdict(report),
        tiles=_tiles(report),
        sections=tuple(section for section in sections if section),
        place=report.place,
    )


def _state(report: SweepReport) -> str:
    states = report.board.states
    if not states:
        return "EMPTY"
    if any(state in states for state in ALIVE):
        return "RUNNING"
    return "COMPLETED" if set(states) == {"COMPLETED"} else "ENDED"


def _verdict(report: SweepReport) -> tuple[str, ...]:
    board, text = report.board, report.board.verdict.text
    advice = {
        "decided": "Use the best setting.",
        "within_noise": "Run more seeds, or use the cheaper of the two settings.",
        "unrepeated": "Run two or three seeds of the best settings to measure the noise.",
        "only_one": "A comparison needs a second finished setting.",
        "none": "Run the report again when trials have finished.",
    }
    return (f"{text[0].upper()}{text[1:]}.", f"{advice[board.verdict.kind]} {_states(report)}")


def _states(report: SweepReport) -> str:
    states = report.board.states
    halved = sum(STOPPED_AT_RUNG in trial.result.why for trial in report.trials)
    others = [f"{count} {state.lower()}" for state, count in sorted(states.items()) if state != "COMPLETED"]
    done = states.get("COMPLETED", 0)
    rest = f"; {', '.join(others)}" if others else ""
    stopped = f" ({halved} of them stopped by halving)" if halved else ""
    return f"{done} of {len(report.trials)} trials finished{rest}{stopped}."


def _tiles(report: SweepReport) -> tuple[Tile, ...]:
    board = report.board
    best = board.settings[0] if board.settings else None
    done = [trial.result for trial in report.trials if trial.result.state == "COMPLETED"]
    tiles = [Tile(label="trials finished", value=f"{len(done)} of {len(report.trials)}")]
    if best and best.score is not None:
        way = "lower is better" if board.direction == "min" else "higher is better"
        tiles.insert(0, Tile(label=f"best {board.metric}", value=f"{best.score:.4g}", note=way))
    if board.verdict.margin is not None:
        noise = board.verdict.noise
        note = f"noise {noise:.3g}" if noise is not None else "noise unknown"
        tiles.append(Tile(label="lead over the second", value=f"{board.verdict.margin:.3g}", note=note))
    tiles.append(Tile(label="settings", value=str(len(board.settings)), note="not counting seeds and folds"))
    hours = sum(result.rank_hours or 0.0 for result in done)
    tiles.append(Tile(label="rank-hours", value=f"{hours:.3g}", note="of finished trials"))
    lost_s = sum(start.lost_s for trial in report.trials for start in trial.starts)
    tiles.append(Tile(label="lost to interruptions", value=duration(lost_s)))
    return tuple(tiles)


def _board(report: SweepReport) -> PageSection:
    board = report.board
    way = "lowest" if board.direction == "min" else "highest"
    text = [f"Ranked by {board.metric}, {way} first; sd is the standard deviation over seeds and folds."]
    if any(setting.score != setting.mean for setting in board.settings):
        text.append("The score is over the held-out rows of all folds; the mean is over trials.")
    if not any(setting.score is not None for setting in board.settings):
        text.append("No setting has a score yet.")
    tables = (board_table(board), trials_table(report))
    return PageSection(anchor="leaderboard", title="Leaderboard", text=tuple(text), tables=tables)


def _curves(report: SweepReport) -> PageSection:
    text: list[str] = []
    figures: list[Figure] = []
    kinds: tuple[CurveKind, ...] = ("training", "validation")
    for of in kinds:
        charts = [sweep_loss(report, of, x) for x in ("step", "tokens")]
        figures += [Figure(chart=chart, table=curve_table(report, of)) for chart in charts if chart]
        if not charts[0]:
            text.append(
                "No trial has logged a step yet."
                if of == "training"
                else "No validation yet: set data.validation, and eval.every_steps to validate during a run."
            )
    silent = sum(not trial.curves.loss for trial in report.trials)
    if figures:
        text.insert(
            0,
            "Training losses are running means over a fiftieth of each run. Point at a line to see its"
            " trial.",
        )
        if silent:
            text.append(f"{silent} trial(s) without a logged step are omitted.")
    # Training beside validation, over steps and then over tokens.
    ordered = [*figures[0::2], *figures[1::2]]
    return PageSection(anchor="curves", title="Loss curves", text=tuple(text), figures=tuple(ordered))


def _parallel(report: SweepReport) -> PageSection:
    chart = parallel_coordinates(report)
    title = "Values and outcome"
    if chart is None:
        text = (f"This chart needs two finished trials with {report.board.metric}.",)
        return PageSection(anchor="parallel", title=title, text=text)
    missing = sum(report.board.metric not in trial.result.scores for trial in report.trials)
    left_out = f" {missing} trial(s) without {report.board.metric} are omitted." if missing else ""
    text = (f"Each line is a trial: its swept values, then its {report.board.metric}.{left_out}",)
    figure = Figure(chart=chart, table=trials_table(report))
    return PageSection(anchor="parallel", title=title, text=text, figures=(figure,))


def _effects(report: SweepReport) -> PageSection:
    board = report.board
    title = "Effect of each key"
    if not board.effects:
        text = ("This needs finished trials with at least two values of a key.",)
        return PageSection(anchor="effects", title=title, text=text)
    text = (
        f"Points are trials, bars are the mean {board.metric} of a value. The percentage is the share of the"
        " variance between trials that the key explains (eta squared). With few trials it can be large by"
        " chance.",
    )
    figures = tuple(
        Figure(chart=effect_chart(report, effect), table=effect_table(board, effect))
        for effect in board.effects
    )
    return PageSection(anchor="effects", title=title, text=text, figures=figures, small=True)


def _spread(report: SweepReport) -> PageSection:
    chart = spread_chart(report)
    title = "Seeds and folds"
    if chart is None:
        text = ("No setting has two finished trials, so there is no spread: add seed=0,1,2 to the sweep.",)
        return PageSection(anchor="spread", title=title, text=text)
    text = (
        "Points are single seeds or folds, bars their means. Settings whose points overlap may differ by"
        " chance only.",
    )
    return PageSection(
        anchor="spread",
        title=title,
        text=text,
        figures=(Figure(chart=chart, table=spread_table(report.board)),),
    )


def _halving(report: SweepReport) -> PageSection | None:
    if not report.halving:
        return None
    text = (
        ("Settings behind the best at a rung were stopped there; `shardline resume` continues a trial.",)
        if report.decisions
        else ("No decision at a rung yet.",)
    )
    return PageSection(anchor="halving", title="Halving", text=text, tables=halving_tables(report))


def _scores(report: SweepReport) -> PageSection:
    title = "Base and tuned model"
    found = scores_table(report)
    if found is None:
        return PageSection(
            anchor="scores", title=title, text=("No finished trial was evaluated on held-out rows.",)
        )
    text = ("Means over the finished trials of each setting, with the change from the base model.",)
    return PageSection(anchor="scores", title=title, text=text, tables=(found,))


def _starts(report: SweepReport) -> PageSection:
    started = [trial for trial in report.trials if trial.starts]
    smooth = [trial for trial in started if _went_well(trial)]
    rough = [trial for trial in report.trials if trial not in smooth]
    text = [f"{len(smooth)} of {len(report.trials)} trials finished in their first start."]
    lost_s = sum(start.lost_s for trial in started for start in trial.starts)
    if lost_s:
        text.append(
            f"Interruptions cost {duration(lost_s)} in total: restarting, repeated steps and waiting."
        )
    tables = [lost_table("Trials that were interrupted or have not finished", rough)] if rough else []
    if smooth:
        tables.append(lost_table("Trials without interruption", smooth, folded=True))
    return PageSection(
        anchor="starts", title="Attempts and lost time", text=tuple(text), tables=tuple(tables)
    )


def _went_well(trial: TrialReport) -> bool:
    return trial.result.state == "COMPLETED" and len(trial.starts) == 1


def _configs(report: SweepReport) -> PageSection:
    swept = "; ".join(f"{key} = {_listed(values)}" for key, values in report.board.axes.items())
    overrides = f"Command line: {' '.join(report.overrides)}." if report.overrides else ""
    text = (f"Created {report.created} in {report.place}.", f"Swept: {swept}.", overrides)
    tables: Sequence[Table] = (difference_table(report), common_table(report))
    return PageSection(
        anchor="configs", title="Configs", text=tuple(line for line in text if line), tables=tuple(tables)
    )


def _listed(values: Sequence[object]) -> str:
    shown = [text_of(value) for value in values[:12]]
    return ", ".join(shown) + (f", ... ({len(values)} values)" if len(values) > 12 else "")

"""What the report of a sweep says, and in which order. Pure."""

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
    """The page of a sweep, whatever state it is in."""
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
    said = [f"{text[0].upper()}{text[1:]}."]
    advice = {
        "decided": "Take it.",
        "within_noise": "Do not choose by this alone: more seeds, or the cheaper of the two.",
        "unrepeated": "Two or three seeds of the best few settings would tell how much of it is chance.",
        "only_one": "A comparison needs a second finished setting.",
        "none": "The report fills as trials finish; write it again then.",
    }
    return (*said, f"{advice[board.verdict.kind]} {_states(report)}")


def _states(report: SweepReport) -> str:
    states = report.board.states
    halved = sum(STOPPED_AT_RUNG in trial.result.why for trial in report.trials)
    told = [f"{count} {state.lower()}" for state, count in sorted(states.items()) if state != "COMPLETED"]
    done = states.get("COMPLETED", 0)
    rest = f"; {', '.join(told)}" if told else ""
    stopped = f" ({halved} of them stopped by halving)" if halved else ""
    return f"{done} of {len(report.trials)} trials finished{rest}{stopped}."


def _tiles(report: SweepReport) -> tuple[Tile, ...]:
    board = report.board
    best = board.settings[0] if board.settings else None
    done = [trial.result for trial in report.trials if trial.result.state == "COMPLETED"]
    tiles = [Tile(label="trials finished", value=f"{len(done)} of {len(report.trials)}")]
    if best and best.score is not None:
        way = "less is better" if board.direction == "min" else "more is better"
        tiles.insert(0, Tile(label=f"best {board.metric}", value=f"{best.score:.4g}", note=way))
    if board.verdict.margin is not None:
        noise = board.verdict.noise
        note = f"noise {noise:.3g}" if noise is not None else "noise unknown"
        tiles.append(Tile(label="ahead of the next", value=f"{board.verdict.margin:.3g}", note=note))
    tiles.append(Tile(label="settings", value=str(len(board.settings)), note="seeds and folds aside"))
    hours = sum(result.rank_hours or 0.0 for result in done)
    tiles.append(Tile(label="rank-hours", value=f"{hours:.3g}", note="of finished trials"))
    lost_s = sum(start.lost_s for trial in report.trials for start in trial.starts)
    tiles.append(Tile(label="lost to interruptions", value=duration(lost_s)))
    return tuple(tiles)


def _board(report: SweepReport) -> PageSection:
    board = report.board
    way = "lowest" if board.direction == "min" else "highest"
    text = [f"Ranked by {board.metric}, the {way} first; sd is over seeds and folds."]
    if any(setting.score != setting.mean for setting in board.settings):
        text.append("The score is that of all held-out rows of the folds together; the mean is over trials.")
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
                else "No trial was validated yet: set data.validation, and eval.every_steps to see it early."
            )
    silent = sum(not trial.curves.loss for trial in report.trials)
    if figures:
        text.insert(
            0,
            "Training losses are running means over a fiftieth of each run. Point at a line to see whose"
            " it is.",
        )
        if silent:
            text.append(f"{silent} trial(s) have logged nothing and are missing here.")
    # Training beside validation, over steps and then over tokens.
    ordered = [*figures[0::2], *figures[1::2]]
    return PageSection(anchor="curves", title="Loss curves", text=tuple(text), figures=tuple(ordered))


def _parallel(report: SweepReport) -> PageSection:
    chart = parallel_coordinates(report)
    title = "Values and outcome"
    if chart is None:
        text = (f"This takes two finished trials with {report.board.metric}.",)
        return PageSection(anchor="parallel", title=title, text=text)
    missing = sum(report.board.metric not in trial.result.scores for trial in report.trials)
    left_out = f" {missing} trial(s) without {report.board.metric} are left out." if missing else ""
    text = (f"Each line is a trial: through its values, to what it came to.{left_out}",)
    figure = Figure(chart=chart, table=trials_table(report))
    return PageSection(anchor="parallel", title=title, text=text, figures=(figure,))


def _effects(report: SweepReport) -> PageSection:
    board = report.board
    title = "What each key does"
    if not board.effects:
        text = ("This takes finished trials with two values of some key.",)
        return PageSection(anchor="effects", title=title, text=text)
    text = (
        f"Points are trials, bars the mean {board.metric} of a value. The share is that part of the variance"
        " between trials that goes with the key (eta squared); with few trials it is large by chance.",
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
        text = ("No setting has two finished trials, so there is no spread to show: add seed=0,1,2.",)
        return PageSection(anchor="spread", title=title, text=text)
    text = ("Points are single seeds or folds, bars their mean. What overlaps here is not decided.",)
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
        ("Settings that fell behind at a rung were stopped there; resume continues any of them.",)
        if report.decisions
        else ("No rung has been decided yet.",)
    )
    return PageSection(anchor="halving", title="Halving", text=text, tables=halving_tables(report))


def _scores(report: SweepReport) -> PageSection:
    title = "Base against tuned"
    found = scores_table(report)
    if found is None:
        return PageSection(
            anchor="scores", title=title, text=("No finished trial was assessed on a held-out set.",)
        )
    text = ("Means over the finished trials of each setting, with the change from the base model.",)
    return PageSection(anchor="scores", title=title, text=text, tables=(found,))


def _starts(report: SweepReport) -> PageSection:
    started = [trial for trial in report.trials if trial.starts]
    smooth = [trial for trial in started if _went_well(trial)]
    rough = [trial for trial in report.trials if trial not in smooth]
    text = [f"{len(smooth)} of {len(report.trials)} trials went through at the first start."]
    lost_s = sum(start.lost_s for trial in started for start in trial.starts)
    if lost_s:
        text.append(
            f"Interruptions cost {duration(lost_s)} in all: starting again, redone steps, and waiting."
        )
    tables = [lost_table("Trials that were interrupted, or are not finished", rough)] if rough else []
    if smooth:
        tables.append(lost_table("Trials that went through", smooth, folded=True))
    return PageSection(
        anchor="starts", title="Attempts and lost time", text=tuple(text), tables=tuple(tables)
    )


def _went_well(trial: TrialReport) -> bool:
    return trial.result.state == "COMPLETED" and len(trial.starts) == 1


def _configs(report: SweepReport) -> PageSection:
    swept = "; ".join(f"{key} = {_listed(values)}" for key, values in report.board.axes.items())
    said = f"The command line said: {' '.join(report.overrides)}." if report.overrides else ""
    text = (f"Created {report.created} in {report.place}.", f"Swept: {swept}.", said)
    tables: Sequence[Table] = (difference_table(report), common_table(report))
    return PageSection(
        anchor="configs", title="Configs", text=tuple(line for line in text if line), tables=tuple(tables)
    )


def _listed(values: Sequence[object]) -> str:
    shown = [text_of(value) for value in values[:12]]
    return ", ".join(shown) + (f", ... ({len(values)} values)" if len(values) > 12 else "")

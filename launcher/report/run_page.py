"""Builds the page of a run's report. Pure."""

from launcher.report.charts import NORM, RATE, SPEED, run_loss, run_measure
from launcher.report.contents import RunReport
from launcher.report.layout import Cell, Figure, Page, PageSection, Table, Tile, table
from launcher.report.words import (
    MEASURE_NAMES,
    SET_NAMES,
    change,
    config_table,
    gigabytes,
    lost_sentence,
    moment,
    number,
    score_sentence,
    series_table,
    starts_table,
)
from launcher.status.state import ALIVE
from launcher.words import duration


def run_page(report: RunReport) -> Page:
    """Return the page of a run in any state."""
    sections = (
        _scores(report),
        _answers(report),
        _curves(report),
        _measures(report),
        _starts(report),
        _checkpoints(report),
        _journal(report),
        _config(report),
    )
    return Page(
        kind="run",
        name=report.name,
        state=report.state,
        verdict=_verdict(report),
        tiles=_tiles(report),
        sections=tuple(section for section in sections if section),
        place=report.place,
    )


def _verdict(report: RunReport) -> tuple[str, ...]:
    of = f"step {report.step} of {report.total_steps or '?'}"
    if report.state == "COMPLETED":
        scores = score_sentence(report.scores)
        first = f"{scores[0].upper()}{scores[1:]}." if scores else "Finished; no data set to evaluate it on."
        return (first, _chosen(report))
    if report.state in ALIVE:
        return (f"No result yet: {report.state.lower()}, {of}.", *_reason(report), _best(report))
    return (f"No result: {report.state.lower()} at {of}.", *_reason(report), _best(report))


def _reason(report: RunReport) -> tuple[str, ...]:
    return (f"{report.why[0].upper()}{report.why[1:].rstrip('.')}.",) if report.why else ()


def _chosen(report: RunReport) -> str:
    if report.best_loss is None:
        return f"The last step, {report.assessed_step}, was evaluated, because there is no validation set."
    return (
        f"Step {report.assessed_step} of {report.total_steps} was evaluated and exported; it has the lowest"
        f" validation loss ({report.best_loss:.4g})."
    )


def _best(report: RunReport) -> str:
    if report.best_loss is None:
        return "No validation so far."
    return f"The lowest validation loss so far is {report.best_loss:.4g}, at step {report.best_step}."


def _tiles(report: RunReport) -> tuple[Tile, ...]:
    curves, cost = report.curves, report.cost
    loss = curves.loss.values
    tiles = [Tile(label="steps", value=f"{report.step:,}", note=f"of {report.total_steps or '?'}")]
    if report.best_loss is not None:
        tiles.append(
            Tile(
                label="best validation loss", value=f"{report.best_loss:.4g}", note=f"step {report.best_step}"
            )
        )
    elif loss:
        tiles.append(Tile(label="training loss", value=f"{loss[-1]:.4g}", note=f"from {loss[0]:.4g}"))
    if cost:
        tiles += [
            Tile(label="tokens", value=f"{cost.tokens:,}", note=f"{cost.samples:,} samples"),
            Tile(
                label="rank-hours", value=f"{cost.rank_hours:.3g}", note=f"{duration(cost.allocated_s)} held"
            ),
            Tile(label="peak memory", value=f"{cost.peak_gb:.2f} GB", note="host, of one rank"),
        ]
    if curves.speed:
        middle = sorted(curves.speed.values)[len(curves.speed.values) // 2]
        tiles.append(Tile(label="tokens per second", value=f"{middle:,.0f}", note="median"))
    lost_s = sum(start.lost_s for start in report.starts)
    tiles.append(
        Tile(label="lost to interruptions", value=duration(lost_s), note=f"{len(report.starts)} start(s)")
    )
    return tuple(tiles)


def _scores(report: RunReport) -> PageSection:
    title = "Base and tuned model"
    if not report.scores:
        ended = report.state == "COMPLETED"
        why = (
            "No comparison: neither data.test nor eval.general is set."
            if ended
            else "No comparison yet: the models are compared at the end of the run."
        )
        return PageSection(anchor="scores", title=title, text=(why,))
    rows = [
        (
            Cell(SET_NAMES[score.of]),
            number(score.rows, ","),
            Cell(MEASURE_NAMES[score.measure]),
            number(score.base),
            number(score.tuned),
            change(score)[0],
        )
        for score in report.scores
    ]
    head = ("set", "rows", "measure", "base", "tuned", "change")
    return PageSection(anchor="scores", title=title, tables=(table("Held-out rows", head, rows),))


def _answers(report: RunReport) -> PageSection | None:
    if not report.answers:
        return None
    text = ("Held-out questions with the answers of the base and the tuned model.",)
    return PageSection(anchor="answers", title="Answers", text=text, answers=report.answers)


def _curves(report: RunReport) -> PageSection:
    curves = report.curves
    if not curves.loss and not curves.validation:
        why = "No step was logged yet." if not curves.rows else "No logged step has a finite loss."
        return PageSection(anchor="loss", title="Loss", text=(why,))
    text = [
        "The thin line is the loss of each logged global batch, the thick line its running mean over a"
        " fiftieth of the run."
    ]
    if not curves.validation:
        text.append("No validation so far: set data.validation, and eval.every_steps to validate during it.")
    if curves.not_finite:
        text.append(f"{curves.not_finite} logged step(s) without a finite loss are omitted.")
    if report.marks:
        text.append("Dashed lines mark interruptions after which the run continued.")
    columns = {"training": curves.loss, "validation": curves.validation}
    figures = tuple(
        Figure(chart=run_loss(report, x), table=series_table(f"Losses by {x}", columns, x))
        for x in ("step", "tokens")
    )
    return PageSection(anchor="loss", title="Loss", text=tuple(text), figures=figures)


def _measures(report: RunReport) -> PageSection | None:
    curves = report.curves
    figures = [
        Figure(
            chart=run_measure(measure, series, report.marks),
            table=series_table(f"{measure.title.capitalize()} by step", {measure.title: series}),
        )
        for measure, series in ((RATE, curves.rate), (SPEED, curves.speed), (NORM, curves.norm))
        if series
    ]
    return (
        PageSection(anchor="measures", title="Rate, speed, gradient", figures=tuple(figures), small=True)
        if figures
        else None
    )


def _starts(report: RunReport) -> PageSection:
    tables = (starts_table(report.starts, alive=report.state in ALIVE),) if report.starts else ()
    return PageSection(
        anchor="starts", title="Attempts and lost time", text=(lost_sentence(report.starts),), tables=tables
    )


def _checkpoints(report: RunReport) -> PageSection:
    saves = report.saves
    text = [
        f"{saves.count} save(s); writing took {duration(saves.written_s)} in the background, and the training"
        f" waited {saves.stalled_s:.2f} s for them."
        if saves.count
        else "No checkpoint was saved yet."
    ]
    rows = [
        (
            Cell(f"step {one.step}", one.step, badge="best" if one.step == report.best_step else None),
            moment(one.made),
            gigabytes(one.nbytes),
            number(one.ranks, "d"),
            number(one.loss),
            Cell("usable" if one.usable else f"not usable: {one.problem}"),
        )
        for one in report.checkpoints
    ]
    if saves.count and not rows:
        text.append("No checkpoint remains on disk.")
    head = ("checkpoint", "made", "size", "ranks", "training loss", "state")
    tables = (table("On disk now", head, rows),) if rows else ()
    return PageSection(anchor="checkpoints", title="Checkpoints", text=tuple(text), tables=tables)


def _journal(report: RunReport) -> PageSection | None:
    if not report.notes:
        return None
    rows = [(moment(note.time), Cell(note.event.replace("_", " ")), Cell(note.text)) for note in report.notes]
    notes = table("Events from the journal", ("time", "event", "details"), rows)
    return PageSection(anchor="journal", title="Notable events", tables=(notes,))


def _kernels(report: RunReport) -> tuple[Table, ...]:
    if not report.kernels:
        return ()
    rows = [(Cell(one.kernel), Cell(one.name), Cell(one.why)) for one in report.kernels]
    return (table("Kernels", ("operation", "kernel", "reason"), rows, folded=True),)


def _config(report: RunReport) -> PageSection:
    submitted = f"Submitted {moment(report.submitted).text}." if report.submitted else "Never submitted."
    return PageSection(
        anchor="config",
        title="Config and versions",
        text=(submitted, f"Run directory: {report.place}."),
        tables=(
            config_table("Config", report.config),
            *_kernels(report),
            table(
                "Code and versions",
                ("component", "version"),
                [(Cell(k), Cell(v)) for k, v in report.origin.items()],
                folded=True,
            ),
        ),
    )

"""Reads the contents of a report from the files of a run or a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.lifecycle.changes import leaves
from launcher.lifecycle.snapshot import frozen_origin
from launcher.node.rungs import decisions
from launcher.records.history import attempts_of
from launcher.records.points import label
from launcher.records.runs import config_values
from launcher.records.sweeps import SweepDir, SweepFile
from launcher.report.contents import (
    Answer,
    CheckpointFact,
    Cost,
    KernelFact,
    Note,
    RunReport,
    Saves,
    Score,
    SweepReport,
    TrialReport,
)
from launcher.report.curves import curves_of, points_for
from launcher.report.starts import marks_of, starts_of
from launcher.status.runs import RunStatus
from launcher.sweep.leaderboard import Leaderboard
from launcher.sweep.results import METRICS, TrialResult
from launcher.words import note
from train.checkpoint.manifest import CheckpointVerdict
from train.checkpoint.store import CheckpointStore
from train.journal.events import CheckpointSaved, KernelsChosen, Submitted, Validated
from train.journal.reading import newest, of_kind, read_journal
from train.metrics import latest_by_step, read_metrics
from train.records.base import RunEvent
from train.result import AnswerPair, Evaluation, Finished, finished_result
from train.rundir import RunDir


def gather_run(run: RunDir, status: RunStatus) -> RunReport:
    """Return the contents of a run's report, in any state of the run."""
    events, rows = read_journal(run.events), read_metrics(run)
    metrics = latest_by_step(rows)
    result = finished_result(run) if status.state == "COMPLETED" else None
    validations = _validations(events)
    starts = starts_of(events, rows, status.attempts or attempts_of(events))
    best = min(validations, key=lambda event: event.loss, default=None)
    return RunReport(
        name=status.run,
        place=str(run.root),
        state=status.state,
        why=status.why,
        step=status.step,
        total_steps=status.total_steps,
        submitted=next((event.time for event in of_kind(events, Submitted)), None),
        curves=curves_of(metrics, validations),
        marks=marks_of(starts, events, metrics),
        starts=starts,
        scores=scores_of(result.evaluation) if result else (),
        answers=tuple(_answer(entry) for entry in result.answers) if result else (),
        cost=_cost(result) if result else None,
        best_step=best.step if best else None,
        best_loss=best.loss if best else None,
        assessed_step=result.evaluated_step if result else None,
        checkpoints=tuple(_checkpoint(verdict) for verdict in CheckpointStore(run.checkpoints).verdicts()),
        saves=_saves(events),
        notes=tuple(
            Note(time=event.time, event=event.event, text=text) for event in events if (text := note(event))
        ),
        kernels=_kernels(events),
        config=dict(leaves(config_values(run))) if run.config.exists() else {},
        origin=_origin(run),
    )


def _answer(entry: AnswerPair) -> Answer:
    return Answer(question=entry.question, reference=entry.reference, base=entry.base, tuned=entry.tuned)


def _kernels(events: Sequence[RunEvent]) -> tuple[KernelFact, ...]:
    last = newest(events, KernelsChosen)
    return tuple(
        KernelFact(kernel=kernel, name=use.name, why=use.reason)
        for kernel, use in (last.engaged.items() if last else ())
    )


def gather_sweep(
    sweep: SweepDir, file: SweepFile, results: Sequence[TrialResult], board: Leaderboard
) -> SweepReport:
    """Return the contents of a sweep's report.

    Args:
        sweep: Directory of the sweep.
        file: Its sweep.yaml.
        results: Result of every trial, in the order of the file.
        board: The leaderboard of these results.
    """
    return SweepReport(
        place=str(sweep.root),
        created=file.created,
        overrides=tuple(file.overrides),
        board=board,
        trials=tuple(
            _trial(sweep.run(trial.name), file.config(trial), result, points_for(len(file.trials)))
            for trial, result in zip(file.trials, results, strict=True)
        ),
        decisions=decisions(sweep),
        halving=file.settings["halving"] is not None,
    )


def scores_of(evaluation: Evaluation) -> tuple[Score, ...]:
    """Return every measure of every data set for the base and the tuned model."""
    found = []
    for of, tuned in evaluation.tuned.items():
        before = evaluation.base.get(of)
        old = before.measures if before else {}
        found += [
            Score(
                of=of,
                rows=tuned.rows,
                measure=measure,
                direction=METRICS[measure],
                base=old.get(measure),
                tuned=value,
            )
            for measure, value in tuned.measures.items()
        ]
    return tuple(found)


def _trial(run: RunDir, config: Mapping[str, Any], result: TrialResult, points: int) -> TrialReport:
    events, rows = read_journal(run.events), read_metrics(run)
    done = finished_result(run) if result.state == "COMPLETED" else None
    return TrialReport(
        result=result,
        label=label(result.point) or result.name,
        curves=curves_of(latest_by_step(rows), _validations(events), points),
        starts=starts_of(events, rows, attempts_of(events)),
        scores=scores_of(done.evaluation) if done else (),
        config=dict(leaves(config)),
    )


def _validations(events: Sequence[RunEvent]) -> list[Validated]:
    return latest_by_step(of_kind(events, Validated))


def _cost(result: Finished) -> Cost:
    return Cost(
        samples=result.samples,
        tokens=result.tokens,
        allocated_s=result.allocated_s,
        rank_hours=result.rank_hours,
        tokens_per_s=result.tokens_per_s,
        peak_gb=max(result.peak_rss_gb_per_rank),
    )


def _checkpoint(verdict: CheckpointVerdict) -> CheckpointFact:
    manifest = verdict.manifest
    return CheckpointFact(
        step=int(verdict.path.name.rpartition("_")[2]),
        usable=verdict.usable,
        problem=verdict.problem,
        nbytes=manifest.nbytes if manifest else None,
        ranks=manifest.world_size if manifest else None,
        loss=manifest.loss if manifest else None,
        made=manifest.time if manifest else None,
    )


def _saves(events: Sequence[RunEvent]) -> Saves:
    made = of_kind(events, CheckpointSaved)
    return Saves(
        count=len(made),
        written_s=sum(event.seconds for event in made),
        stalled_s=sum(event.stall_s for event in made),
    )


def _origin(run: RunDir) -> dict[str, str]:
    if not run.code.exists():
        return {}
    origin = frozen_origin(run.code)
    commit = origin["git_commit"] or "no git checkout"
    edited = " with uncommitted changes" if origin["git_dirty"] else ""
    return {"git commit": f"{commit}{edited}", "python": origin["python"], **origin["versions"]}

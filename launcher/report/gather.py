"""From files to what a report tells. Reads; draws nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.lifecycle.changes import leaves
from launcher.lifecycle.snapshot import frozen_origin
from launcher.node.rungs import decisions
from launcher.records.history import Event, attempts_of
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
from launcher.words import about_the_compilation, short_notice
from train.checkpoint.manifest import CheckpointVerdict
from train.checkpoint.store import CheckpointStore
from train.rundir import RunDir, latest_by_step, read_lines

_MEASURES = ("loss", "perplexity", "accuracy", "macro_f1")
_NOTABLE: Mapping[str, Callable[[Event], str]] = {
    "bad_step": lambda row: f"step {row['step']}: {row['reason']}",
    "rollback": lambda row: f"from step {row['step']} back to {row['to_step']}: {row['reason']}",
    "save_failed": lambda row: f"step {row['step']}: {row['why']}",
    "skipped_checkpoints": lambda row: "; ".join(row["why"]),
    "short_notice": short_notice,
    "tracking": lambda row: str(row["why"]),
    "changed": lambda row: "; ".join(row["keys"]),
    "requeue_failed": lambda row: str(row["reason"]),
    "gave_up": lambda row: str(row["reason"]),
    "cancelled": lambda row: "by the user",
    "compiled": about_the_compilation,
}
"""Events that are told as they are, and how."""


def gather_run(run: RunDir, status: RunStatus) -> RunReport:
    """Everything about one run, whatever state it is in."""
    events, rows = list(read_lines(run.events)), list(read_lines(run.metrics))
    metrics = latest_by_step(iter(rows))
    result = _result(run, status.state)
    validations = _validations(events)
    starts = starts_of(events, rows, status.attempts or attempts_of(events))
    best = min(validations, key=lambda row: float(row["loss"]), default=None)
    return RunReport(
        name=status.run,
        place=str(run.root),
        state=status.state,
        why=status.why,
        step=status.step,
        total_steps=status.total_steps,
        submitted=next((row["time"] for row in events if row["event"] == "submitted"), None),
        curves=curves_of(metrics, validations),
        marks=marks_of(starts, events, metrics),
        starts=starts,
        scores=scores_of(result["evaluation"]) if result else (),
        answers=tuple(Answer(**entry) for entry in result["answers"]) if result else (),
        cost=_cost(result) if result else None,
        best_step=best["step"] if best else None,
        best_loss=float(best["loss"]) if best else None,
        assessed_step=result["evaluated_step"] if result else None,
        checkpoints=tuple(_checkpoint(verdict) for verdict in CheckpointStore(run.checkpoints).verdicts()),
        saves=_saves(events),
        notes=tuple(
            Note(time=row["time"], event=row["event"], text=_NOTABLE[row["event"]](row))
            for row in events
            if row["event"] in _NOTABLE
        ),
        kernels=_kernels(events),
        config=dict(leaves(config_values(run))) if run.config.exists() else {},
        origin=_origin(run),
    )


def _kernels(events: Sequence[Event]) -> tuple[KernelFact, ...]:
    engaged = [row["engaged"] for row in events if row["event"] == "kernels"]
    last = engaged[-1] if engaged else {}
    return tuple(
        KernelFact(kernel=kernel, name=choice["name"], why=choice["why"]) for kernel, choice in last.items()
    )


def gather_sweep(
    sweep: SweepDir, file: SweepFile, results: Sequence[TrialResult], board: Leaderboard
) -> SweepReport:
    """Everything about a sweep.

    Args:
        sweep: Where it is.
        file: Its sweep.yaml.
        results: Of every trial, in the order of the file.
        board: The same, ranked.
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


def scores_of(evaluation: Mapping[str, Any]) -> tuple[Score, ...]:
    """Base against tuned: every measure of every set."""
    found = []
    for of, tuned in evaluation["tuned"].items():
        before = evaluation["base"].get(of)
        found += [
            Score(
                of=of,
                rows=tuned["rows"],
                measure=measure,
                direction=METRICS[measure],
                base=before[measure] if before else None,
                tuned=tuned[measure],
            )
            for measure in _MEASURES
            if tuned[measure] is not None
        ]
    return tuple(found)


def _trial(run: RunDir, config: Mapping[str, Any], result: TrialResult, points: int) -> TrialReport:
    events, rows = list(read_lines(run.events)), list(read_lines(run.metrics))
    done = _result(run, result.state)
    return TrialReport(
        result=result,
        label=label(result.point) or result.name,
        curves=curves_of(latest_by_step(iter(rows)), _validations(events), points),
        starts=starts_of(events, rows, attempts_of(events)),
        scores=scores_of(done["evaluation"]) if done else (),
        config=dict(leaves(config)),
    )


def _result(run: RunDir, state: str) -> dict[str, Any] | None:
    """result.json of a finished run; of a failed one it holds no more than the status knows."""
    if state != "COMPLETED":
        return None
    result: dict[str, Any] = json.loads(run.result.read_text())
    return result


def _validations(events: Sequence[Event]) -> list[Event]:
    return latest_by_step(row for row in events if row["event"] == "validation")


def _cost(result: Mapping[str, Any]) -> Cost:
    return Cost(
        samples=result["samples"],
        tokens=result["tokens"],
        allocated_s=result["allocated_s"],
        rank_hours=result["rank_hours"],
        tokens_per_s=result["tokens_per_s"],
        peak_gb=max(result["peak_rss_gb_per_rank"]),
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


def _saves(events: Sequence[Event]) -> Saves:
    made = [row for row in events if row["event"] == "checkpoint"]
    return Saves(
        count=len(made),
        written_s=sum(row["seconds"] for row in made),
        stalled_s=sum(row["stall_s"] for row in made),
    )


def _origin(run: RunDir) -> dict[str, str]:
    if not run.code.exists():
        return {}
    origin = frozen_origin(run.code)
    commit = origin["git_commit"] or "not from a git checkout"
    edited = " with uncommitted edits" if origin["git_dirty"] else ""
    return {"git commit": f"{commit}{edited}", "python": origin["python"], **origin["versions"]}

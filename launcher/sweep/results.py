"""The results of trials, read from their result.json alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launcher.records.points import Point
from launcher.records.sweeps import SweepDir, SweepFile
from launcher.status.runs import RunStatus
from train.result import Finished, finished_result

Direction = Literal["min", "max"]
METRICS: Mapping[str, Direction] = {
    "validation_loss": "min",
    "loss": "min",
    "perplexity": "min",
    "accuracy": "max",
    "macro_f1": "max",
    "general_loss": "min",
    "forgotten": "min",
}
"""Metrics that can rank settings. `validation_loss` is the best of the run on data.validation; `loss` to
`macro_f1` are those of the tuned model on the test or held-out rows; `general_loss` is its loss on
eval.general; `forgotten` is the increase of that loss over the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One trial, finished or not."""

    name: str
    point: Point
    state: str
    why: str
    step: int
    scores: Mapping[str, float]
    """Scores by metric; empty until the trial is finished."""
    attempts: int
    tokens: int | None
    allocated_s: float | None
    """Total duration of its attempts, in seconds."""
    rank_hours: float | None
    """Duration of its attempts times the number of ranks, in hours; GPU-hours if a rank is a GPU."""
    tokens_per_s: float | None
    peak_gb: float | None
    """Largest peak of host memory of any rank."""


def trial_results(sweep: SweepDir, file: SweepFile, statuses: Sequence[RunStatus]) -> list[TrialResult]:
    """Read the results of all trials, in the order of the file.

    Args:
        sweep: The sweep directory.
        file: The content of its sweep.yaml.
        statuses: The status of each trial, in the same order.
    """
    return [_result(sweep, trial.point, status) for trial, status in zip(file.trials, statuses, strict=True)]


def _result(sweep: SweepDir, point: Point, status: RunStatus) -> TrialResult:
    done = finished_result(sweep.run(status.run)) if status.state == "COMPLETED" else None
    return TrialResult(
        name=status.run,
        point=point,
        state=status.state,
        why=status.why,
        step=status.step,
        scores=scores_of(done) if done else {},
        attempts=status.attempt,
        tokens=done.tokens if done else None,
        allocated_s=done.allocated_s if done else None,
        rank_hours=done.rank_hours if done else None,
        tokens_per_s=done.tokens_per_s if done else None,
        peak_gb=max(done.peak_rss_gb_per_rank) if done else None,
    )


def scores_of(result: Finished) -> dict[str, float]:
    """Return the available metrics of a finished run, by name."""
    task = result.evaluation.tuned.get("task")
    general, before = (scores.get("general") for scores in (result.evaluation.tuned, result.evaluation.base))
    found = {"validation_loss": result.best.validation_loss, **(task.measures if task else {})}
    if general:
        found["general_loss"] = general.loss
    if general and before and general.loss is not None and before.loss is not None:
        found["forgotten"] = general.loss - before.loss
    return {name: float(value) for name, value in found.items() if value is not None}

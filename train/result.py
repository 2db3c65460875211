"""The result of a run in result.json: its types, one writer and one reader. Torch-free.

The keys are an API for scripts. Keys may be added, with a default for older files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from train.failures import ExitCode, FailureClass
from train.journal.parts import DataReport
from train.records.base import Record, RecordError, now, record, to_row
from train.records.reading import from_row
from train.rundir import RunDir, write_json

_WHY = {"why": "reason"}


@record
class SetScores(Record):
    """The scores of a set; None for values that are not finite."""

    set: str
    """The data role that was used: test, held_out, validation or general."""
    rows: int
    tokens: int
    loss: float | None
    perplexity: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None

    @property
    def measures(self) -> dict[str, float]:
        """The measures of the set, by name."""
        found = {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
        }
        return {name: value for name, value in found.items() if value is not None}


@record
class Evaluation(Record):
    """The scores of both models, by set: `task`, `general`."""

    base: Mapping[str, SetScores]
    """Scores of the base model; empty with eval.base=false."""
    tuned: Mapping[str, SetScores]


@record
class AnswerPair(Record):
    """A held-out question with the answers before and after training."""

    question: str
    reference: str | None
    base: str | None
    tuned: str


@record
class BestCheckpoint(Record):
    """The best checkpoint by validation loss; both are None without a validation."""

    step: int | None
    validation_loss: float | None


@record
class Finished(Record):
    """The result of a completed run with an exported model."""

    outcome: ClassVar[Literal["COMPLETED"]] = "COMPLETED"
    exit_code: ClassVar[ExitCode] = ExitCode.DONE

    step: int
    total_steps: int
    ended_early: str | None = None
    """The reason why the run ended before its last step; None if it did not."""
    data: DataReport | None = None
    samples: int
    tokens: int
    attempts: int
    restarts: int
    """Number of restarts in place, over all attempts."""
    job_id: str | None
    seconds_since_first_submit: float | None
    allocated_s: float
    """Seconds for which all attempts held their ranks."""
    rank_hours: float
    goodput: Mapping[str, float] | None = None
    """Shares of the rank hours by use."""
    tokens_per_s: float | None
    """Median over all rows of metrics."""
    best: BestCheckpoint
    evaluated_step: int
    evaluation: Evaluation
    answers: Sequence[AnswerPair]
    export: str
    peak_rss_gb_per_rank: Sequence[float]


@record
class Failed(Record):
    """The result of a failed run, which only `shardline resume` starts again."""

    outcome: ClassVar[Literal["FAILED"]] = "FAILED"
    renamed = _WHY

    reason: str
    """Why the run failed; the key in the file is `why`."""
    exit_code: ExitCode = ExitCode.RUN_FAILED
    failure_class: FailureClass | Literal["no_progress"] | None = None
    """The class of the failure; None if Slurm rejected the job."""
    attempts: int | None = None
    """The attempt that failed; None if the failure was outside an attempt."""
    time: float | None = None
    """Time of the failure, set by `write_result`."""


RunResult = Finished | Failed


def write_result(run: RunDir, result: RunResult) -> None:
    """Write result.json."""
    if isinstance(result, Failed) and result.time is None:
        result = replace(result, time=now())
    write_json(run.result, result_row(result))


def read_result(run: RunDir) -> RunResult | None:
    """Read result.json; returns None if it does not exist.

    Raises:
        RecordError: The content is invalid.
    """
    try:
        text = run.result.read_text()
    except FileNotFoundError:
        return None
    row = _object(text, str(run.result))
    outcome = row.pop("outcome", None)
    if outcome == Finished.outcome:
        return from_row(Finished, row, str(run.result))
    if outcome == Failed.outcome:
        return from_row(Failed, row, str(run.result))
    raise RecordError(f"{run.result}: unknown outcome {outcome!r}; known: COMPLETED, FAILED")


def finished_result(run: RunDir) -> Finished | None:
    """Return the result of a completed run; None for any other run."""
    result = read_result(run)
    return result if isinstance(result, Finished) else None


def require_finished(run: RunDir) -> Finished:
    """Return the result of a run that must be complete.

    Raises:
        RecordError: There is no result.json, or it is the result of a failed run.
    """
    result = finished_result(run)
    if result is None:
        raise RecordError(f"{run.result} is missing or is the result of a failed run")
    return result


def result_row(result: RunResult) -> dict[str, Any]:
    """Return the keys and values of result.json."""
    row = {"outcome": result.outcome, **to_row(result, whole=True)}
    return {"why" if name == "reason" else name: value for name, value in row.items()}


def _object(text: str, where: str) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise RecordError(f"{where}: {type(row).__name__} instead of a JSON object")
    return row

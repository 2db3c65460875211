"""result.json: how a run ended. One type, one writer, one reader. Torch-free.

The keys are an API: scripts read them. Keys may be added, each with a default for the files written before.
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
    """What a set scored. A number that was not finite is None."""

    set: str
    """The data role that served: test, held_out, validation, general."""
    rows: int
    tokens: int
    loss: float | None
    perplexity: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None

    @property
    def measures(self) -> dict[str, float]:
        """The measures that the set has, by name."""
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
    """Empty with eval.base=false."""
    tuned: Mapping[str, SetScores]


@record
class AnswerPair(Record):
    """A held-out question, answered before and after."""

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
    """The run trained to its end; the exported model is there."""

    outcome: ClassVar[Literal["COMPLETED"]] = "COMPLETED"
    exit_code: ClassVar[ExitCode] = ExitCode.DONE

    step: int
    total_steps: int
    ended_early: str | None = None
    """Why it ended before its last step."""
    data: DataReport | None = None
    samples: int
    tokens: int
    attempts: int
    restarts: int
    """In place, over all attempts."""
    job_id: str | None
    seconds_since_first_submit: float | None
    allocated_s: float
    """How long all attempts held their ranks."""
    rank_hours: float
    goodput: Mapping[str, float] | None = None
    """Shares of that time by use."""
    tokens_per_s: float | None
    """The median of all reports."""
    best: BestCheckpoint
    evaluated_step: int
    evaluation: Evaluation
    answers: Sequence[AnswerPair]
    export: str
    peak_rss_gb_per_rank: Sequence[float]


@record
class Failed(Record):
    """The run failed, and nothing starts it again but `shardline resume`."""

    outcome: ClassVar[Literal["FAILED"]] = "FAILED"
    renamed = _WHY

    reason: str
    """In the file under the key `why`."""
    exit_code: ExitCode = ExitCode.RUN_FAILED
    failure_class: FailureClass | Literal["no_progress"] | None = None
    """None if Slurm did not take the job."""
    attempts: int | None = None
    """The attempt that failed; None if it was none of them."""
    time: float | None = None
    """When; `write_result` fills it in."""


RunResult = Finished | Failed


def write_result(run: RunDir, result: RunResult) -> None:
    """Write result.json, whole."""
    if isinstance(result, Failed) and result.time is None:
        result = replace(result, time=now())
    write_json(run.result, result_row(result))


def read_result(run: RunDir) -> RunResult | None:
    """How the run ended; None while result.json is not there.

    Raises:
        RecordError: the file is not one that a version of Shardline writes.
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
    """The result of a run that is complete; None for any other."""
    result = read_result(run)
    return result if isinstance(result, Finished) else None


def require_finished(run: RunDir) -> Finished:
    """The result of a run that is known to be complete.

    Raises:
        RecordError: result.json is gone, or it is that of a failed run.
    """
    result = finished_result(run)
    if result is None:
        raise RecordError(f"{run.result} is not that of a finished run")
    return result


def result_row(result: RunResult) -> dict[str, Any]:
    """The keys and values of result.json."""
    row = {"outcome": result.outcome, **to_row(result, whole=True)}
    return {"why" if name == "reason" else name: value for name, value in row.items()}


def _object(text: str, where: str) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise RecordError(f"{where}: {type(row).__name__} instead of a JSON object")
    return row

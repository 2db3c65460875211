"""Scores and answers of a model in eval/base.json and eval/tuned.json. Torch-free."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from train.records.base import Record, RecordError, record, to_row
from train.records.reading import from_row
from train.result import SetScores
from train.rundir import RunDir, write_json

Model = Literal["base", "tuned"]


@record
class Answered(Record):
    """A held-out question, its reference and the model's answer."""

    question: str
    reference: str | None
    answer: str


@record
class Assessment(Record):
    """The scores of one model on each set, and its answers."""

    scores: Mapping[str, SetScores]
    """Scores by set: `task`, `general`."""
    answers: Sequence[Answered] = ()
    """The answers; empty with eval.num_samples=0."""


def write_assessment(run: RunDir, model: Model, found: Assessment) -> None:
    """Write eval/MODEL.json."""
    run.evaluations.mkdir(exist_ok=True)
    row = {name: to_row(scores, whole=True) for name, scores in found.scores.items()}
    answers = {"answers": [to_row(entry, whole=True) for entry in found.answers]} if found.answers else {}
    write_json(run.evaluations / f"{model}.json", {**row, **answers})


def read_assessment(run: RunDir, model: Model) -> Assessment | None:
    """Read eval/MODEL.json; returns None if it does not exist.

    Raises:
        RecordError: A field is missing, unknown or invalid.
    """
    path = run.evaluations / f"{model}.json"
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    if not isinstance(row, dict):
        raise RecordError(f"{path}: {type(row).__name__} instead of a JSON object")
    answers = row.pop("answers", [])
    return Assessment(
        scores={name: from_row(SetScores, scores, f"{path}: {name}") for name, scores in row.items()},
        answers=[from_row(Answered, entry, f"{path}: answers") for entry in answers],
    )

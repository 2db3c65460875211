"""Assesses the base and the tuned model on the task set, the general set and held-out questions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.config import DataRole
from train.data.collate import TokenSet
from train.data.rows import read_rows
from train.dist import Group
from train.engine.engine import Engine
from train.evaluate.answers import answer
from train.evaluate.assessment import (
    Answered,
    Assessment,
    Model,
    read_assessment,
    write_assessment,
)
from train.evaluate.predictions import write_predictions
from train.evaluate.scores import score_rows, summarise
from train.formats.base import Format, Turns
from train.formats.registry import format_named
from train.job import TrainJob
from train.journal.phases import Phase
from train.measure.phases import PhaseTimer
from train.result import SetScores

SETS: dict[str, tuple[DataRole, ...]] = {
    "task": ("held_out", "test", "validation"),
    "general": ("general",),
}
"""Data roles of each set of the verdict; the first role with data is used."""
_PHASES = {"base": Phase.ASSESS_BASE, "tuned": Phase.ASSESS_TUNED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessor:
    """Assesses the weights in an engine and stores the result as eval/NAME.json."""

    job: TrainJob
    engine: Engine
    tokenizer: Any
    sets: Mapping[DataRole, TokenSet]
    group: Group
    phases: PhaseTimer

    def once(self, name: Model) -> Assessment:
        """Assess the current weights, or read the result of an earlier attempt. Collective.

        The tuned model's predictions for held-out rows are written first, so they exist if tuned.json does.
        """
        run_dir, main = self.job.run_dir, self.group.env.is_main
        known: Assessment | None = self.group.from_main(read_assessment(run_dir, name) if main else None)
        if known is not None:
            return known
        self.phases.begin(_PHASES[name])
        if main:
            run_dir.evaluations.mkdir(exist_ok=True)
        outcome = self._assess(keep_predictions=name == "tuned")
        if main:
            write_assessment(run_dir, name, outcome)
        return outcome

    def _assess(self, *, keep_predictions: bool) -> Assessment:
        config = self.job.config
        causal = config.model.task == "causal"
        scores: dict[str, SetScores] = {}
        for name, roles in SETS.items():
            role = next((role for role in roles if role in self.sets), None)
            if role:
                mine = score_rows(
                    self.engine, self.sets[role], self.group, config.eval.batch_size, causal=causal
                )
                found = summarise(mine, self.group, causal=causal)
                scores[name] = SetScores(set=role, **asdict(found))
                if keep_predictions and role == "held_out":
                    write_predictions(self.job.run_dir.predictions, mine, self.group, self.job.plan.labels)
        return Assessment(scores=scores, answers=self._answers() if config.eval.num_samples else ())

    def _answers(self) -> list[Answered]:
        """Return questions with their references and the model's answers."""
        config = self.job.config
        role: DataRole = "held_out" if "held_out" in self.sets else "test"
        questions = held_out_questions(
            Path(self.job.plan.data[role].path),
            format_named(config.data.format),
            self.sets[role].numbers,
            config.eval.num_samples,
        )
        answers = answer(
            self.engine,
            self.tokenizer,
            [turns for turns, _ in questions],
            self.group,
            config.eval.answer_tokens,
            sharded=config.zero.stage == 3,
        )
        return [
            Answered(question=turns[-1]["content"], reference=reference, answer=text)
            for (turns, reference), text in zip(questions, answers, strict=True)
        ]


def held_out_questions(
    path: Path, row_format: Format, numbers: np.ndarray, count: int
) -> list[tuple[Turns, str]]:
    """Return the first question (with a system turn, if any) of up to `count` rows, and its reference.

    Args:
        path: A data file.
        row_format: The format of the file, which must contain questions.
        numbers: The rows to choose from; the chosen ones are evenly spaced.
        count: Maximum number of questions.
    """
    assert row_format.question is not None
    rows = list(read_rows(path))
    chosen = np.linspace(0, len(numbers) - 1, num=min(count, len(numbers)), dtype=int)
    pairs = []
    for number in numbers[chosen]:
        pairs.append(row_format.question(rows[number].value))
    return pairs

"""The assessment that base and tuned model both pass: task set, general set, held-out questions."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from train.context import RankContext
from train.data.rows import read_rows
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
from train.journal.phases import Phase
from train.result import SetScores

SETS = {"task": ("held_out", "test", "validation"), "general": ("general",)}
"""Name in the verdict, and the data roles that serve for it: the first that the config names."""
_PHASES = {"base": Phase.ASSESS_BASE, "tuned": Phase.ASSESS_TUNED}


def assess_once(context: RankContext, name: Model) -> Assessment:
    """Assess the weights as they stand and keep the outcome as eval/NAME.json; reuse it when it is there.

    What the tuned model made of held-out rows is written before, so whoever finds tuned.json finds it too.
    """
    run_dir = context.job.run_dir
    known: Assessment | None = context.group.from_main(
        read_assessment(run_dir, name) if context.is_main else None
    )
    if known is not None:
        return known
    context.announce(_PHASES[name])
    if context.is_main:
        run_dir.evaluations.mkdir(exist_ok=True)
    outcome = _assess(context, keep_predictions=name == "tuned")
    if context.is_main:
        write_assessment(run_dir, name, outcome)
    return outcome


def _assess(context: RankContext, *, keep_predictions: bool) -> Assessment:
    config = context.job.config
    scores: dict[str, SetScores] = {}
    answered: list[Answered] = []
    for name, roles in SETS.items():
        role = next((role for role in roles if role in context.sets), None)
        if role:
            mine = score_rows(
                context.engine,
                context.sets[role],
                context.group,
                config.eval.batch_size,
                causal=context.causal,
            )
            found = summarise(mine, context.group, causal=context.causal)
            scores[name] = SetScores(set=role, **asdict(found))
            if keep_predictions and role == "held_out":
                write_predictions(context, mine)
    if config.eval.answers:
        role = "held_out" if "held_out" in context.sets else "test"
        questions = held_out_questions(
            Path(context.job.plan.data[role].path),
            format_named(config.data.format),
            context.sets[role].numbers,
            config.eval.answers,
        )
        answers = answer(
            context.engine,
            context.tokenizer,
            [turns for turns, _ in questions],
            context.group,
            config.eval.answer_tokens,
            sharded=config.zero.stage == 3,
        )
        answered = [
            Answered(question=turns[-1]["content"], reference=reference, answer=text)
            for (turns, reference), text in zip(questions, answers, strict=True)
        ]
    return Assessment(scores=scores, answers=answered)


def held_out_questions(
    path: Path, row_format: Format, numbers: np.ndarray, count: int
) -> list[tuple[Turns, str]]:
    """The first question (after a system turn, if any) of `count` rows, and its reference.

    Args:
        path: A data file.
        row_format: Its format, whose rows hold questions.
        numbers: The rows of it to choose from, evenly spread.
        count: Questions at most.
    """
    assert row_format.question is not None
    rows = list(read_rows(path))
    chosen = np.linspace(0, len(numbers) - 1, num=min(count, len(numbers)), dtype=int)
    pairs = []
    for number in numbers[chosen]:
        pairs.append(row_format.question(rows[number].value))
    return pairs

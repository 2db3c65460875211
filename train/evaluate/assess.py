"""The assessment that base and tuned model both pass: task set, general set, held-out questions."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from train.context import RankContext
from train.data.rows import read_rows
from train.evaluate.answers import answer
from train.evaluate.predictions import write_predictions
from train.evaluate.scores import score_rows, summarise
from train.formats.base import Format, Turns
from train.formats.registry import format_named
from train.rundir import write_json

SETS = {"task": ("held_out", "test", "validation"), "general": ("general",)}
"""Name in the verdict, and the data roles that serve for it: the first that the config names."""


def assess_once(context: RankContext, name: Literal["base", "tuned"]) -> dict[str, Any]:
    """Assess the weights as they stand and keep the outcome as eval/NAME.json; reuse it when it is there.

    What the tuned model made of held-out rows is written before, so whoever finds tuned.json finds it too.
    """
    path = context.job.run_dir.evaluations / f"{name}.json"
    known: dict[str, Any] | None = context.group.from_main(
        json.loads(path.read_text()) if context.is_main and path.exists() else None
    )
    if known is not None:
        return known
    context.announce(f"assess {name}")
    if context.is_main:
        path.parent.mkdir(exist_ok=True)
    outcome = _assess(context, keep_predictions=name == "tuned")
    if context.is_main:
        write_json(path, outcome)
    return outcome


def _assess(context: RankContext, *, keep_predictions: bool) -> dict[str, Any]:
    config = context.job.config
    outcome: dict[str, Any] = {}
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
            outcome[name] = {"set": role, **asdict(summarise(mine, context.group, causal=context.causal))}
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
        outcome["answers"] = [
            {"question": turns[-1]["content"], "reference": reference, "answer": text}
            for (turns, reference), text in zip(questions, answers, strict=True)
        ]
    return outcome


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

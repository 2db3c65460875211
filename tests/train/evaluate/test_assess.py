"""The assessment of a model: which sets it passes, what is kept of it, and when it is read back."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes.group import on_ranks
from tests.train.evaluate.parts import Rows, TableEngine
from train.config import EvalConfig
from train.evaluate import assess
from train.evaluate.assess import Assessor, held_out_questions
from train.evaluate.assessment import Assessment, Model
from train.formats.registry import format_named
from train.journal.phases import Phase
from train.rundir import RunDir, read_lines


def assessor(
    root: Path, group: Any, roles: Sequence[str], phases: list[Phase], **evaluation: Any
) -> Assessor:
    config = SimpleNamespace(
        model=SimpleNamespace(task="causal"),
        data=SimpleNamespace(format="messages"),
        zero=SimpleNamespace(stage=2),
        eval=EvalConfig(batch_size=2, **{"num_samples": 0, **evaluation}),
    )
    file = SimpleNamespace(path=str(root / "rows.jsonl"))
    plan = SimpleNamespace(labels=[], data=dict.fromkeys(roles, file))
    job: Any = SimpleNamespace(run_dir=RunDir(root), config=config, plan=plan)
    engine: Any = TableEngine((1.0, 2.0, 3.0))
    # A set is told from the others by its number of rows.
    sets: Any = {role: Rows((2, 2, 2)[: number + 1]) for number, role in enumerate(roles)}
    timer: Any = SimpleNamespace(begin=phases.append)
    return Assessor(job=job, engine=engine, tokenizer=None, sets=sets, group=group, phases=timer)


def assessed(root: Path, name: Model, *roles: str, ranks: int = 2, **evaluation: Any) -> Assessment:
    """What both ranks of a run come to."""
    found = on_ranks(ranks, lambda group: assessor(root, group, roles, [], **evaluation).once(name))
    assert all(outcome == found[0] for outcome in found)
    return found[0]


@pytest.mark.parametrize(
    ("roles", "sets"),
    [
        (("train", "validation", "general"), {"task": "validation", "general": "general"}),
        (("validation", "test"), {"task": "test"}),
        (("validation", "test", "held_out"), {"task": "held_out"}),
        (("train",), {}),
    ],
)
def test_the_first_of_the_sets_serves(tmp_path: Path, roles: tuple[str, ...], sets: dict[str, str]):
    found = assessed(tmp_path, "base", *roles)
    assert {name: scores.set for name, scores in found.scores.items()} == sets
    for scores in found.scores.values():
        rows = roles.index(scores.set) + 1
        assert scores.rows == rows
        assert scores.loss == pytest.approx((rows + 1) / 2)


def test_an_outcome_that_was_kept_is_read_back(tmp_path: Path):
    first = assessed(tmp_path, "base", "test")
    phases: list[Phase] = []
    [again] = on_ranks(1, lambda group: assessor(tmp_path, group, ["validation"], phases).once("base"))
    assert again.scores["task"].set == "test"
    assert again.scores == first.scores
    assert phases == []
    on_ranks(1, lambda group: assessor(tmp_path, group, ["validation"], phases).once("tuned"))
    assert phases == [Phase.ASSESS_TUNED]


@pytest.mark.parametrize(
    ("name", "role", "kept"),
    [("tuned", "held_out", True), ("base", "held_out", False), ("tuned", "test", False)],
)
def test_predictions_are_kept_of_the_tuned_model_on_held_out_rows(
    tmp_path: Path, name: Model, role: str, kept: bool
):
    assessed(tmp_path, name, "train", role)
    assert RunDir(tmp_path).predictions.exists() is kept
    if kept:
        assert [row["row"] for row in read_lines(RunDir(tmp_path).predictions)] == [0, 1]


def test_answers_are_kept_beside_their_questions_and_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(2)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(_engine: Any, _tokenizer: Any, asked: Any, *_: Any, **__: Any) -> list[str]:
        return [f"to {turns[-1]['content']}" for turns in asked]

    monkeypatch.setattr(assess, "answer", answer)
    found = assessed(tmp_path, "tuned", "train", "held_out", num_samples=5)
    pairs = [(entry.question, entry.reference, entry.answer) for entry in found.answers]
    assert pairs == [("q0", "a0", "to q0"), ("q1", "a1", "to q1")]


@pytest.mark.parametrize(
    ("numbers", "count", "asked"),
    [
        (range(5), 2, [0, 4]),
        (range(5), 3, [0, 2, 4]),
        (range(5), 9, [0, 1, 2, 3, 4]),
        ([1, 3], 2, [1, 3]),
        ([3], 4, [3]),
    ],
)
def test_questions_are_spread_over_the_rows(
    tmp_path: Path, numbers: Sequence[int], count: int, asked: list[int]
):
    path = tmp_path / "rows.jsonl"
    roles = ("system", "user", "assistant")
    rows = [[{"role": role, "content": f"{role} {n}"} for role in roles] for n in range(5)]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    found = held_out_questions(path, format_named("messages"), np.array(numbers), count)
    assert [(question[-1]["content"], answer) for question, answer in found] == [
        (f"user {n}", f"assistant {n}") for n in asked
    ]
    assert all(question[0]["role"] == "system" for question, _ in found)

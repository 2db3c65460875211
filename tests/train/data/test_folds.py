"""Folds: every row in one of them, nothing that belongs together in two, the same ones everywhere."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from launcher.compose.roots import packaged
from tests.conftest import conversation
from train.config import CrossValidationConfig
from train.data.folds import FoldError, Sample, draw_folds, folds_sha256, linked_units, read_samples
from train.data.parts import fold_of_each_row
from train.data.rows import file_sha256
from train.job import DataFile

ROOT = Path(__file__).resolve().parents[3]
TICKETS = packaged("examples") / "tickets" / "train.jsonl"
HELPDESK = packaged("examples") / "helpdesk" / "train.jsonl"


def sample(text: str, group: str | None = None, label: str | None = None) -> Sample:
    return Sample(text.encode(), group, label)


def labelled(counts: dict[str, int]) -> list[Sample]:
    return [sample(f"{label} {n}", None, label) for label, count in counts.items() for n in range(count)]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_label_is_shared_out_within_one_row(folds: int):
    counts = {"common": 61, "middling": 23, "rare": 7}
    samples = labelled(counts)
    drawn = draw_folds(samples, folds=folds, seed=0)
    assert set(drawn.tolist()) == set(range(folds))
    assert len(drawn) == len(samples)
    for label, count in counts.items():
        held_out = Counter(fold for fold, s in zip(drawn.tolist(), samples, strict=True) if s.label == label)
        assert {held_out[fold] - count // folds for fold in range(folds)} <= {0, 1}, label


def test_without_labels_the_folds_are_equally_large():
    drawn = draw_folds([sample(str(n)) for n in range(23)], folds=5, seed=1)
    assert sorted(np.bincount(drawn).tolist()) == [4, 4, 5, 5, 5]


def test_rows_that_are_linked_through_others_stay_together():
    """A chain: first and second share a group, second and third a content, and so on."""
    chain = [sample("a", "g1"), sample("b", "g1"), sample("b", "g2"), sample("c", "g2"), sample("c", "g3")]
    others = [sample(f"other {n}", f"own {n}") for n in range(15)]
    units = linked_units(chain + others)
    assert len(set(units[:5].tolist())) == 1
    assert len(set(units.tolist())) == 16
    for seed in range(20):
        drawn = draw_folds(chain + others, folds=4, seed=seed)
        assert len(set(drawn[:5].tolist())) == 1


def test_no_group_and_no_duplicate_is_in_two_folds():
    rng = np.random.default_rng(0)
    samples = [
        sample(f"text {rng.integers(150)}", f"author {rng.integers(60)}", "ab"[n % 2]) for n in range(200)
    ]
    drawn = draw_folds(samples, folds=2, seed=3)
    for key in ("content", "group"):
        folds_of: dict[object, set[int]] = {}
        for fold, row in zip(drawn.tolist(), samples, strict=True):
            folds_of.setdefault(getattr(row, key), set()).add(fold)
        assert {len(folds) for folds in folds_of.values()} == {1}


@pytest.mark.parametrize(
    ("format_name", "rows"),
    [
        ("text", [{"text": "\uff37hy\tis it  SLOW?"}, {"text": " why is it slow? "}]),
        ("labelled", [{"text": "Straße", "label": "a"}, {"text": "STRASSE", "label": "b"}]),
        (
            "prompt_completion",
            [{"prompt": "Q: 1?", "completion": "yes"}, {"prompt": "q:\n1?", "completion": "no"}],
        ),
        ("messages", [conversation("Why?", "So."), conversation("why?  ", "Because.")]),
    ],
)
def test_the_same_question_is_a_duplicate_whatever_its_answer(
    format_name: str, rows: list[object], write_rows: Callable[..., Path]
):
    first, second = read_samples(write_rows("r.jsonl", rows), format_name, None)
    assert first.content == second.content


@pytest.mark.parametrize(
    ("format_name", "rows"),
    [
        ("text", [{"text": "why?"}, {"text": "why not?"}]),
        ("prompt_completion", [{"prompt": "a", "completion": "c"}, {"prompt": "b", "completion": "c"}]),
        ("messages", [conversation("Why?", "So."), conversation("How?", "So.")]),
        (
            "messages",
            [
                {"messages": conversation("a", "x")["messages"] + conversation("b c", "x")["messages"]},
                {"messages": conversation("a b", "x")["messages"] + conversation("c", "x")["messages"]},
            ],
        ),
    ],
)
def test_other_questions_are_no_duplicates(
    format_name: str, rows: list[object], write_rows: Callable[..., Path]
):
    first, second = read_samples(write_rows("r.jsonl", rows), format_name, None)
    assert first.content != second.content


def test_the_draw_is_known_and_its_seed_alone_changes_it():
    """The hash was drawn once and written here: another machine or another process must find the same."""
    samples = read_samples(TICKETS, "labelled", None)
    found = folds_sha256(draw_folds(samples, folds=5, seed=0))
    assert found == "ad54e814c2377c8f6bf4d1e979d73ae90b244737151c9deed961aece12a0de5e"
    program = (
        "import sys; from pathlib import Path; from train.data.folds import *;"
        "samples = read_samples(Path(sys.argv[1]), 'labelled', None);"
        "print(folds_sha256(draw_folds(samples, folds=5, seed=0)))"
    )
    for hash_seed in ("1", "2"):
        other = subprocess.run(
            [sys.executable, "-c", program, str(TICKETS)],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.stdout.strip() == found
    draws = [folds_sha256(draw_folds(samples, folds=5, seed=seed)) for seed in range(4)]
    assert len(set(draws)) == 4


def test_a_fold_trains_on_every_group_but_its_own():
    topics = [json.loads(line)["topic"] for line in HELPDESK.read_text().splitlines()]
    drawn = draw_folds(read_samples(HELPDESK, "messages", "topic"), folds=4, seed=0)
    held_out = [{t for t, fold in zip(topics, drawn, strict=True) if fold == n} for n in range(4)]
    assert set.union(*held_out) == set(topics)
    assert all(one.isdisjoint(other) for one, other in combinations(held_out, 2))


@pytest.mark.parametrize(
    ("samples", "folds", "field", "why"),
    [
        (
            [sample("a"), sample("a"), sample("b")],
            3,
            "cv.folds",
            "3 rows form 2 groups after joining duplicates: too few for 3 folds",
        ),
        (
            [sample(str(n), f"g{n % 3}") for n in range(30)],
            4,
            "cv.folds",
            "30 rows form 3 groups after joining duplicates: too few for 4 folds",
        ),
        (
            labelled({"a": 9, "b": 3}),
            4,
            "cv.folds",
            "the label 'b' has 3 rows, fewer than the 4 folds",
        ),
        (
            [*labelled({"a": 9}), *(sample(f"b {n}", "one author", "b") for n in range(4))],
            2,
            "cv.group",
            "has all rows with the label 'b', so its run cannot learn it",
        ),
    ],
)
def test_rows_that_cannot_be_dealt_are_refused(samples: list[Sample], folds: int, field: str, why: str):
    with pytest.raises(FoldError) as refused:
        draw_folds(samples, folds=folds, seed=0)
    [obstacle] = refused.value.obstacles
    assert obstacle.field == field
    assert why in obstacle.message
    assert obstacle.fix


def test_a_draw_is_kept_and_another_content_is_drawn_anew(write_rows: Callable[..., Path]):
    def drawn(rows: list[object], cv: CrossValidationConfig) -> np.ndarray:
        path = write_rows("r.jsonl", rows)
        return fold_of_each_row(
            DataFile(path=str(path), sha256=file_sha256(path), rows=len(rows)), "text", cv
        )

    cv = CrossValidationConfig(folds=2, fold=0)
    rows: list[object] = [{"text": f"row {n}", "by": n // 2} for n in range(12)]
    first = drawn(rows, cv)
    assert drawn(rows, CrossValidationConfig(folds=2, fold=1)).tolist() == first.tolist()
    grouped = drawn(rows, CrossValidationConfig(folds=2, group="by"))
    assert grouped[::2].tolist() == grouped[1::2].tolist()
    assert first[::2].tolist() != first[1::2].tolist()
    assert len(drawn([*rows, {"text": "one more", "by": 9}], cv)) == 13

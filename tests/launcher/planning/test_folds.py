"""A fold as its plan shows it, and what of a cross-validation is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from launcher.cli.output import make_console
from launcher.cli.show.plan import plan_as_json, show_plan
from launcher.compose.run import compose_run
from launcher.errors import Problem
from launcher.lifecycle.changes import draw_changes, refusals
from launcher.planning.plan import RunPlan
from launcher.planning.preflight import examine, exit_code_for
from tests.conftest import conversation
from train.job import FoldPlan


def plan_of(*overrides: str) -> RunPlan:
    plan, problems = examine(compose_run(overrides))
    assert not problems
    assert plan is not None
    return plan


def problems_of(*overrides: str) -> list[Problem]:
    plan, problems = examine(compose_run(["experiment=smoke", *overrides]))
    assert exit_code_for(problems) == 2
    assert plan is not None
    return problems


def test_rows_and_steps_are_those_of_the_training_part(capsys: pytest.CaptureFixture[str]):
    whole = plan_of("experiment=triage")
    parts = [plan_of("experiment=triage", "cv.folds=4", f"cv.fold={fold}") for fold in range(4)]
    for fold, plan in enumerate(parts):
        rows = {role: file.rows for role, file in plan.training.data.items()}
        assert rows["train"] + rows["held_out"] == whole.training.data["train"].rows
        assert plan.time.total_steps == -(-6 * rows["train"] // 16)
        assert plan.training.fold is not None
        assert plan.training.fold.fold == fold
        assert plan_as_json(plan)["rows"] == rows
    assert sum(plan.training.data["held_out"].rows for plan in parts) == whole.training.data["train"].rows
    assert len({plan.run for plan in [whole, *parts]}) == 5, "every fold is a run of its own"
    assert len({plan.training.fold.sha256 for plan in parts if plan.training.fold}) == 1
    show_plan(make_console(), parts[1], verbose=False)
    rows = plan_as_json(parts[1])["rows"]
    shown = " ".join(capsys.readouterr().out.split())
    told = f"fold 1 of 4, counted from 0: training on {rows['train']} rows, {rows['held_out']} held out"
    assert told in shown


def test_the_test_set_is_left_for_the_final_model(tmp_path: Path):
    """A run with a fold does not even open it; one that trains on all rows does."""
    gone = f"data.test={tmp_path}/none.jsonl"
    assert "test" not in plan_of("experiment=smoke", "cv.folds=3", "cv.fold=0", gone).training.data
    assert [problem.field for problem in problems_of("cv.folds=3", gone)] == ["data.test"]
    final = plan_of("experiment=smoke", "cv.folds=3")
    assert {role: file.rows for role, file in final.training.data.items()} == {
        "train": 416,
        "validation": 64,
        "test": 64,
    }


@pytest.mark.parametrize(
    ("overrides", "field", "message"),
    [
        ("cv.fold=0", "cv.fold", "cv.fold=0 has no effect without cv.folds"),
        ("cv.group=topic", "cv.group", "cv.group='topic' has no effect without cv.folds"),
        ("cv.seed=1", "cv.seed", "cv.seed=1 has no effect without cv.folds"),
        ("cv.folds=3 cv.fold=3", "cv.fold", "invalid cv.fold=3: with cv.folds=3, folds are 0 to 2"),
        (
            "cv.folds=9 cv.group=topic",
            "cv.folds",
            "416 rows form 8 groups after joining duplicates: too few for 9 folds",
        ),
        (
            "cv.folds=2 data.test=null eval.num_samples=1",
            "eval.num_samples",
            "eval.num_samples=1 needs data.test or a held-out fold, and data.format=messages",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(overrides: str, field: str, message: str):
    [problem] = problems_of(*overrides.split())
    assert (problem.field, problem.message) == (field, message)
    assert problem.fix


def test_rows_without_the_group_are_named_by_file_and_line(write_rows: Callable[..., Path]):
    rows: list[dict[str, Any]] = [{**conversation(f"q {n}", "a"), "by": f"author {n}"} for n in range(8)]
    del rows[2]["by"]
    rows[4]["by"] = " "
    rows[5]["by"] = None
    path = write_rows("rows.jsonl", rows)
    found = problems_of(f"data.train={path}", "cv.folds=2", "cv.fold=0", "cv.group=by")
    assert [problem.message for problem in found] == [
        f"{path}:3: the field 'by' (cv.group) is missing (found: messages)",
        f"{path}:5: the field 'by' (cv.group) is empty",
        f"{path}:6: the field 'by' (cv.group) must be a string or an integer",
    ]
    nowhere = problems_of("cv.folds=2", "cv.fold=0", "cv.group=by")
    assert len(nowhere) == 11
    assert nowhere[-1].message.endswith("406 more rows like these")


def test_bad_rows_are_told_before_folds_are_drawn(write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [conversation("q", "a"), {"text": "x"}])
    [problem] = problems_of(f"data.train={path}", "cv.folds=2", "cv.fold=0")
    assert problem.code == "data.row"


def test_answers_may_be_asked_from_the_fold():
    plan_of("experiment=smoke", "cv.folds=3", "cv.fold=0", "data.test=null", "eval.num_samples=1")


def test_folds_that_come_out_otherwise_are_refused_on_resume():
    before = FoldPlan(fold=0, folds=5, sha256="a" * 64)
    now = before.model_copy(update={"sha256": "b" * 64})
    assert draw_changes(before, before, []) == []
    changes = draw_changes(before, now, [])
    [problem] = refusals(changes, [])
    assert problem.message.startswith("cannot change cv from 'aaaaaaaaaaaa' to 'bbbbbbbbbbbb'")
    assert refusals(changes, ["cv"]) == []
    said = replace(changes[0], key="cv.seed")
    assert draw_changes(before, now, [said]) == [], "a key that differs says it already"


def test_the_plan_names_the_fold_for_scripts(shardline: Callable[..., CompletedProcess[str]]):
    found = json.loads(shardline("plan", "experiment=smoke", "cv.folds=3", "cv.fold=2", "--json").stdout)
    assert (found["fold"]["fold"], found["fold"]["folds"]) == (2, 3)
    assert found["rows"]["train"] + found["rows"]["held_out"] == 416

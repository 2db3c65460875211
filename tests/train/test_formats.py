"""The data formats: documented as they are, named in one place, and one entry is all that a new one needs."""

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from launcher.compose.roots import packaged
from launcher.compose.run import compose_run
from launcher.planning.preflight import examine
from train.config import CrossValidationConfig, DataConfig
from train.data.folds import read_samples
from train.data.parts import fold_of_each_row
from train.data.prepare import prepare
from train.data.render import IGNORED
from train.data.rows import file_sha256
from train.evaluate.assess import held_out_questions
from train.formats import registry
from train.formats.base import Format, Rendered, check_texts, end_of_text
from train.formats.registry import FORMATS, format_named, format_names
from train.job import DataFile
from train.model.load import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
TINY = packaged("examples") / "models" / "tiny-llama"


def data_file(path: Path, rows: int) -> DataFile:
    return DataFile(path=str(path), sha256=file_sha256(path), rows=rows)


@pytest.mark.parametrize("entry", FORMATS, ids=lambda entry: entry.name)
def test_the_example_of_a_format_is_a_row_of_it(entry: Format):
    assert entry.check(entry.example) is None
    template = SimpleNamespace(
        eos_token="<end>",
        apply_chat_template=lambda turns, **_: "".join(turn["content"] for turn in turns),
    )
    assert "..." in entry.render(entry.example, template).text
    assert entry.asked(entry.example)
    assert json.loads(json.dumps(entry.example)) == entry.example


@pytest.mark.parametrize("value", ["chat", 3, None])
def test_an_unknown_name_is_refused_with_those_that_exist(value: object):
    with pytest.raises(ValidationError) as refused:
        DataConfig(train="rows.jsonl", format=value)
    [error] = refused.value.errors()
    assert error["type"] == "literal_error"
    assert error["msg"] == "Input should be 'messages', 'prompt_completion', 'text' or 'labelled'"


def test_names_by_task():
    assert format_names("classification") == ("labelled",)
    assert registry.formats_with_questions() == ("messages",)
    assert get_args(DataConfig.model_fields["format"].annotation) == format_names()


@pytest.mark.parametrize(("task", "label"), [("classification", None), ("causal", lambda value: value["x"])])
def test_a_label_belongs_to_classification(task: Any, label: Any):
    with pytest.raises(ValueError, match="label is required for task=classification"):
        made_up(task=task, label=label)


def test_no_other_file_compares_the_name_of_a_format():
    """`text` is a word of many files (charts, logs), so of that one only comparisons count."""
    for path in sorted((ROOT / "train").rglob("*.py")) + sorted((ROOT / "launcher").rglob("*.py")):
        if path.parent == ROOT / "train" / "formats":
            continue
        tree = ast.parse(path.read_text())
        compared = [
            text
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare)
            for text in ast.walk(node)
            if isinstance(text, ast.Constant) and text.value in format_names()
        ]
        named = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value in ("messages", "prompt_completion", "labelled")
        ]
        assert not compared + named, f"{path.relative_to(ROOT)} names a format: ask train/formats"


def made_up(**changes: Any) -> Format:
    """Questions and answers in two columns."""
    values: dict[str, Any] = {
        "name": "question_answer",
        "task": "causal",
        "trained": "the answer",
        "example": {"q": "...", "a": "..."},
        "check": lambda value: check_texts(value, "q", "a"),
        "render": _render_answer,
        "asked": lambda value: [value["q"]],
        "question": lambda value: ([{"role": "user", "content": value["q"]}], value["a"]),
    }
    return Format(**{**values, **changes})


def _render_answer(value: Any, tokenizer: Any) -> Rendered:
    text = f"{value['q']} {value['a']}{end_of_text(tokenizer)}"
    return Rendered(text, ((len(value["q"]) + 1, len(text)),))


STARS = Format(
    name="stars",
    task="classification",
    trained="the number of stars",
    example={"review": "...", "stars": 5},
    check=lambda value: check_texts(value, "review") or (None if "stars" in value else "no stars"),
    render=lambda value, _tokenizer: Rendered(value["review"], ()),
    asked=lambda value: [value["review"]],
    label=lambda value: f"{value['stars']} stars",
)


@pytest.fixture
def new_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FORMATS", (*FORMATS, made_up(), STARS))


QUESTIONS = [{"q": f"What is node {n // 2}?", "a": f"It is number {n}."} for n in range(12)]
"""Each question twice."""


def plan_codes(path: Path, experiment: str, format_name: str) -> list[tuple[str, str]]:
    """Problems of a plan. Composing knows the formats of the start, so a new one is put in afterwards."""
    alone = ["data.validation=null", "data.test=null", "eval.general=null", "eval.num_samples=0"]
    run = compose_run([f"experiment={experiment}", f"data.train={path}", *alone, "optim.warmup_steps=0"])
    data = run.config.data.model_copy(update={"format": format_name})
    run = replace(run, config=run.config.model_copy(update={"data": data}))
    return [(problem.code, problem.message) for problem in examine(run)[1]]


def data_config(path: Path, format_name: str, max_length: int) -> DataConfig:
    config = DataConfig(train=str(path), format="text", max_length=max_length)
    return config.model_copy(update={"format": format_name})


@pytest.mark.usefixtures("new_formats")
def test_rows_of_a_new_format_are_planned_and_checked(write_rows: Callable[..., Path]):
    good = write_rows("good.jsonl", list(QUESTIONS))
    bad = write_rows("bad.jsonl", [QUESTIONS[0], {"q": "only"}])
    assert plan_codes(good, "smoke", "question_answer") == []
    assert plan_codes(bad, "smoke", "question_answer") == [
        ("data.row", f"{bad}:2: the field 'a' is missing (found: q)")
    ]
    codes = [code for code, _ in plan_codes(good, "smoke", "stars")]
    assert codes[0:1] == ["data.row"]
    assert "data.format" in codes


@pytest.mark.usefixtures("new_formats")
def test_rows_of_a_new_format_are_rendered_and_prepared(write_rows: Callable[..., Path]):
    path = write_rows("good.jsonl", list(QUESTIONS))
    tokenizer = load_tokenizer(TINY)
    config = data_config(path, "question_answer", 64)
    prepared = prepare(data_file(path, 12), config, tokenizer, "key", [])
    assert len(prepared) == 12
    trained = [token for token in prepared[3]["labels"] if token != IGNORED]
    assert tokenizer.decode(trained).strip() == f"It is number 3.{tokenizer.eos_token}"


@pytest.mark.usefixtures("new_formats")
def test_rows_of_a_new_format_are_dealt_into_folds_and_asked(write_rows: Callable[..., Path]):
    path = write_rows("good.jsonl", list(QUESTIONS))
    drawn = fold_of_each_row(data_file(path, 12), "question_answer", CrossValidationConfig(folds=3))
    assert drawn[::2].tolist() == drawn[1::2].tolist(), "the same question stays in one fold"
    [first, last] = held_out_questions(path, format_named("question_answer"), np.array([0, 5, 11]), 2)
    assert first == ([{"role": "user", "content": "What is node 0?"}], "It is number 0.")
    assert last[1] == "It is number 11."


@pytest.mark.usefixtures("new_formats")
def test_a_new_format_with_labels_serves_classifiers(write_rows: Callable[..., Path]):
    rows = [{"review": f"run {n}", "stars": n % 2} for n in range(8)]
    path = write_rows("stars.jsonl", list(rows))
    assert plan_codes(path, "triage", "stars") == []
    config = data_config(path, "stars", 16)
    prepared = prepare(data_file(path, 8), config, load_tokenizer(TINY), "key", ["0 stars", "1 stars"])
    assert prepared["labels"][:] == [0, 1] * 4
    assert {sample.label for sample in read_samples(path, "stars", None)} == {"0 stars", "1 stars"}

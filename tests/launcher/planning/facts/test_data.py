"""What planning finds in data files: rows, labels, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.planning.facts.data import look_at_data
from tests.conftest import conversation
from train.data.rows import file_sha256

GOOD = conversation("q", "a")


@pytest.fixture(scope="module")
def smoke() -> RunConfig:
    return compose_run(["experiment=smoke"]).config


def reading(config: RunConfig, general: Path | None = None, **data: object) -> RunConfig:
    """The same run with these data settings and no other files."""
    none = {"validation": None, "test": None}
    values = {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={**none, **values}),
            "eval": config.eval.model_copy(update={"general": str(general) if general else None}),
        }
    )


def test_every_named_file_is_counted_and_hashed_by_role(smoke: RunConfig, write_rows: Callable[..., Path]):
    paths = {
        role: write_rows(f"{role}.jsonl", [GOOD] * rows)
        for rows, role in enumerate(("train", "validation", "test", "general"), 1)
    }
    files, labels, problems = look_at_data(reading(smoke, **paths))
    assert (labels, problems) == ([], [])
    assert {role: file.rows for role, file in files.items()} == {
        "train": 1,
        "validation": 2,
        "test": 3,
        "general": 4,
    }
    assert all(file.sha256 == file_sha256(paths[role]) for role, file in files.items())


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (None, None, "no such file: "),
        ("rows.txt", "x", "unknown file type '.txt'"),
        ("rows.jsonl", "", "is empty"),
    ],
)
def test_a_file_that_cannot_be_used(
    smoke: RunConfig, tmp_path: Path, name: str | None, content: str | None, why: str
):
    path = tmp_path / (name or "none.jsonl")
    if content is not None:
        path.write_text(content)
    _, _, [problem] = look_at_data(reading(smoke, train=path))
    assert (problem.code, problem.field) == ("data.file", "data.train")
    assert why in problem.message


def test_ten_bad_rows_are_named_and_the_others_counted(smoke: RunConfig, write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [GOOD, *[{"text": "x"}] * 12])
    files, _, problems = look_at_data(reading(smoke, train=path))
    assert files["train"].rows == 1
    assert [problem.code for problem in problems] == ["data.row"] * 11
    assert problems[0].message.startswith(f"{path}:2: the field 'messages' is missing")
    assert problems[-1].message == f"{path}: 2 more invalid rows"
    assert '{"messages": [{"role": "user"' in problems[0].fix


def test_labels_are_those_of_the_training_rows(smoke: RunConfig, write_rows: Callable[..., Path]):
    train = write_rows("train.jsonl", [{"text": "x", "label": label} for label in ("b", 1, "a", "b")])
    test = write_rows("test.jsonl", [{"text": "x", "label": label} for label in ("a", "new", "c")])
    _, labels, [problem] = look_at_data(reading(smoke, train=train, test=test, format="labelled"))
    assert labels == ["1", "a", "b"]
    assert (problem.code, problem.field) == ("data.label", "data.test")
    assert problem.message.endswith("c, new")


def test_a_run_with_a_fold_leaves_the_test_file_alone(
    smoke: RunConfig, tmp_path: Path, write_rows: Callable[..., Path]
):
    config = reading(smoke, train=write_rows("train.jsonl", [GOOD]), test=tmp_path / "none.jsonl")
    folded = config.model_copy(update={"cv": config.cv.model_copy(update={"folds": 2, "fold": 0})})
    assert list(look_at_data(folded)[0]) == ["train"]
    assert [problem.field for problem in look_at_data(config)[2]] == ["data.test"]

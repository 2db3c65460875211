"""Two runs that hold out one half each: together they score every row once, and no row they trained on."""

import json
from pathlib import Path

import pytest

from launcher.compose.roots import packaged
from tests.conftest import conversation
from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, traced_settings
from train.data.render import IGNORED, label_tokens
from train.formats.messages import render_messages
from train.rundir import read_lines

STEPS = 14
ROWS = 45
COPIES = 5
"""The last rows ask what the first ones ask, in capitals."""


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    path = module_runs / "folds.jsonl"
    questions = [f"question {n} {'why ' * (n % 7)}" for n in range(ROWS - COPIES)]
    questions += [question.upper() for question in questions[:COPIES]]
    rows = [conversation(text, f"answer {n} {'so ' * (n % 11)}") for n, text in enumerate(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        *traced_settings(module_runs, STEPS),
        f"data.train={path}",
        "train.micro_batch_size=2",
        "checkpoint.every_steps=5",
        "optim.warmup_steps=3",
        "eval.batch_size=3",
        "eval.num_samples=2",
        "eval.answer_tokens=4",
        "cv.folds=2",
    )


@pytest.fixture(scope="module")
def halves(settings: tuple[str, ...], module_runs: Path) -> list[Run]:
    return [finish(*settings, f"cv.fold={fold}", f"runs_dir={module_runs}") for fold in range(2)]


def predictions(run: Run) -> list[dict]:
    return list(read_lines(run.dir.predictions))


def trained_rows(run: Run) -> list[int]:
    return [row for _, batch in run.trace() for row in batch]


def test_together_they_score_every_row_once(halves: list[Run]):
    scored = [[line["row"] for line in predictions(run)] for run in halves]
    assert sorted(scored[0] + scored[1]) == list(range(ROWS))
    for rows in scored:
        assert rows == sorted(rows)
        assert all((row in rows) == (ROWS - COPIES + row in rows) for row in range(COPIES))


def test_what_is_held_out_is_never_trained_on(halves: list[Run]):
    for run in halves:
        held_out = {line["row"] for line in predictions(run)}
        part = set(range(ROWS)) - held_out
        ids = trained_rows(run)
        assert len(ids) == STEPS * 8
        for epoch in range(len(ids) // len(part)):
            assert set(ids[epoch * len(part) : (epoch + 1) * len(part)]) == part


def test_the_assessment_is_of_the_held_out_rows(halves: list[Run]):
    questions = [json.loads(line)["messages"][0]["content"] for line in training_file(halves[0]).splitlines()]
    for run in halves:
        lines, task = predictions(run), run.result["evaluation"]["tuned"]["task"]
        assert (task["set"], task["rows"]) == ("held_out", len(lines))
        assert task["tokens"] == sum(line["tokens"] for line in lines)
        assert task["loss"] * task["tokens"] == pytest.approx(sum(line["loss_sum"] for line in lines))
        asked = [entry["question"] for entry in run.result["answers"]]
        assert len(asked) == 2
        assert set(asked) <= {questions[line["row"]] for line in lines}


def test_each_line_holds_the_loss_of_its_own_row(halves: list[Run]):
    """Recomputed from the exported model by transformers, one row at a time, without this project's loss."""
    import torch
    import transformers

    run = halves[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(run.dir.export, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.dir.export)
    rows = [json.loads(line)["messages"] for line in training_file(run).splitlines()]
    for line in predictions(run):
        rendered = render_messages(rows[line["row"]], tokenizer)
        encoded = tokenizer(rendered.text, return_offsets_mapping=True, add_special_tokens=False)
        labels = label_tokens(encoded["input_ids"], encoded["offset_mapping"], rendered.trained)
        with torch.no_grad():
            logits = model(torch.tensor([encoded["input_ids"]])).logits[0, :-1]
        wanted = torch.tensor(labels[1:])
        loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
        assert line["loss_sum"] == pytest.approx(loss.item(), rel=1e-4)
        assert line["tokens"] == int((wanted != IGNORED).sum())


def training_file(run: Run) -> str:
    return Path(json.loads(run.dir.plan.read_text())["training"]["data"]["train"]["path"]).read_text()


def test_a_fold_that_was_stopped_ends_as_the_unbroken_one(settings: tuple[str, ...], halves: list[Run]):
    run = start(*settings, "cv.fold=0", "name=stopped", until=7)
    run.stopped()
    run.go_on()
    assert run.trace() == halves[0].trace()
    assert run.curve() == halves[0].curve()
    assert predictions(run) == predictions(halves[0])


def test_classes_are_predicted_by_name(tmp_path: Path):
    from sklearn.metrics import accuracy_score, f1_score

    path = tmp_path / "tickets.jsonl"
    tickets = [
        json.loads(line)
        for line in (packaged("examples") / "tickets" / "train.jsonl").read_text().splitlines()
    ]
    kept = [row for row in tickets if row["label"] in ("memory", "queue", "storage")][:33]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    run = finish(
        "experiment=triage",
        "tracking=disabled",
        f"data.train={path}",
        "data.validation=null",
        "train.max_steps=6",
        "optim.warmup_steps=0",
        "eval.base=false",
        "eval.every_steps=null",
        "cv.folds=3",
        "cv.fold=1",
    )
    lines = predictions(run)
    truth, guesses = [line["label"] for line in lines], [line["predicted"] for line in lines]
    assert truth == [kept[line["row"]]["label"] for line in lines]
    task = run.result["evaluation"]["tuned"]["task"]
    assert (task["rows"], task["tokens"]) == (len(lines), len(lines))
    assert task["accuracy"] == pytest.approx(accuracy_score(truth, guesses))
    assert task["macro_f1"] == pytest.approx(f1_score(truth, guesses, average="macro"))

"""What the ranks of one run make of its config: exports, formats, length, tracking, and how they fail."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.compose.roots import packaged
from tests.conftest import conversation
from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, call
from train.rundir import read_lines

SMALL = ("experiment=smoke", "train.precision=fp32", "hardware.gpus_per_node=1")
"""One rank, where nothing depends on their number."""


@pytest.mark.parametrize(("stage", "tied"), [(2, False), (3, True)])
def test_every_stage_exports_the_live_weights(stage: int, tied: bool, tmp_path: Path):
    """The loss of the exported model, recomputed by transformers, is the loss that the run reported."""
    import torch
    import transformers

    source = tmp_path / "model"
    source.mkdir()
    for file in (packaged("examples") / "models" / "tiny-llama").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    run = finish(
        "experiment=smoke",
        f"zero=stage{stage}",
        f"model.source=path:{source}",
        "train.precision=fp32",
        "eval.base=false",
        "train.max_steps=5",
    )
    again = call("export", str(run.dir.root), "--step", "5", "--out", str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    model = transformers.AutoModelForCausalLM.from_pretrained(run.dir.export, dtype=torch.float32)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)
    ids = torch.arange(3, 40).view(1, -1)
    torch.testing.assert_close(other(ids).logits, model(ids).logits, rtol=0, atol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.dir.export)
    assert recomputed_loss(model, tokenizer, run) == pytest.approx(
        run.result["evaluation"]["tuned"]["task"]["loss"], rel=1e-5
    )


def recomputed_loss(model, tokenizer, run: Run) -> float:
    """Loss over the assistant's tokens of the test file, one row at a time, without this project's loss."""
    import torch

    from train.data.render import IGNORED, label_tokens
    from train.formats.messages import render_messages

    total = trained = 0.0
    path = json.loads(run.dir.plan.read_text())["training"]["data"]["test"]["path"]
    for line in Path(path).read_text().splitlines():
        rendered = render_messages(json.loads(line)["messages"], tokenizer)
        encoded = tokenizer(rendered.text, return_offsets_mapping=True, add_special_tokens=False)
        labels = label_tokens(encoded["input_ids"], encoded["offset_mapping"], rendered.trained)[:256]
        with torch.no_grad():
            logits = model(torch.tensor([encoded["input_ids"][:256]])).logits[0, :-1]
        wanted = torch.tensor(labels[1:])
        total += torch.nn.functional.cross_entropy(
            logits, wanted, ignore_index=IGNORED, reduction="sum"
        ).item()
        trained += int((wanted != IGNORED).sum())
    return total / trained


def test_answers_are_shown_without_a_base_too(runs: Path):
    run = finish(
        *SMALL,
        "train.max_steps=2",
        "eval.base=false",
        "eval.num_samples=2",
        "eval.answer_tokens=4",
    )
    assert [entry["base"] for entry in run.result["answers"]] == [None, None]
    shown = call("results", run.dir.root.name).stdout
    assert "Question 2" in shown
    assert "tuned" in shown


@pytest.mark.parametrize("key", ["", "x" * 40])
def test_wandb_without_key_or_server_harms_nothing(key: str):
    run = finish(
        *SMALL,
        "tracking=online",
        "train.max_steps=3",
        environ={
            "WANDB_BASE_URL": "http://127.0.0.1:9",
            "WANDB_API_KEY": key,
            "HOME": "/nonexistent",
        },
    )
    assert len(run.losses()) == 3
    assert [row for row in run.events if row["event"] == "tracking"]


def test_changed_data_is_another_run(write_rows: Callable[..., Path], runs: Path):
    """A stopped run neither goes on with it, nor does the same config take its place."""
    path = write_rows("rows.jsonl", [conversation(f"q{n}", "a") for n in range(40)])
    settings = (*SMALL, f"data.train={path}", "train.max_steps=5000")
    run = start(*settings, until=2)
    run.stopped()
    path.write_text(path.read_text().replace("q1", "changed"))
    again = call("submit", *settings)
    assert again.returncode == 3
    assert f"the content of {path} changed since" in " ".join(again.stderr.split())
    run.begin_next()
    assert "changed since the run was planned" in run.failed().message


def test_a_run_that_diverges_says_so(runs: Path):
    run = start(*SMALL, "optim.lr=1e30", "optim.clip_norm=0", "zero=stage0")
    failure = run.failed()
    assert "the run diverged at step" in failure.message
    assert "there is no earlier checkpoint; lower optim.lr" in failure.message


@pytest.mark.parametrize(
    ("format_name", "row"),
    [("text", {"text": "some plain text"}), ("prompt_completion", {"prompt": "1 + 1 = ", "completion": "2"})],
)
def test_other_formats_train_too(format_name: str, row: dict[str, str], write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [row] * 16)
    run = finish(
        *SMALL,
        f"data.train={path}",
        f"data.format={format_name}",
        "data.validation=null",
        "data.test=null",
        "train.max_steps=5",
        "eval.base=false",
    )
    assert run.losses()[-1] < run.losses()[0]


def test_length_in_epochs_sees_each_row_that_often(write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [conversation(f"q{n}", "a") for n in range(21)])
    run = finish(
        *SMALL,
        f"data.train={path}",
        "train.max_steps=null",
        "train.epochs=2",
        "train.trace=true",
        "data.validation=null",
        "data.test=null",
        "eval.base=false",
    )
    ids = [row for row in read_lines(run.dir.trace) for row in row["sample_ids"]]
    assert sorted(ids) == sorted([*range(21), *range(21)])
    assert run.status.step == run.status.total_steps == 6

"""A whole run as its user meets it: directory, result, export, tracking, refusals, the shell."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launcher.compose.groups import packaged
from tests.conftest import conversation
from tests.multiprocess.runs import COMMAND, Run, command, finish, start
from train.rundir import RunDir, read_lines

CANARY = "canary-8c1f"
ONE_RANK = "hardware.gpus_per_node=1"
"""Where nothing depends on their number: a start costs half."""
RUNNING = ("experiment=smoke", "name=running", "train.max_steps=50000")


@pytest.fixture(scope="module")
def smoke(module_runs: Path) -> Run:
    return finish(
        "experiment=smoke",
        "tracking=offline",
        f"runs_dir={module_runs}",
        WANDB_API_KEY=CANARY * 4,
        HF_TOKEN=CANARY,
    )


def test_the_run_directory_holds_what_the_readme_says(smoke: Run):
    names = {path.name for path in smoke.dir.root.iterdir()}
    assert names >= {
        "run.yaml",
        "plan.json",
        "deepspeed.json",
        "code",
        "jobs.jsonl",
        "events.jsonl",
        "metrics.jsonl",
        "logs",
        "checkpoints",
        "eval",
        "export",
        "result.json",
    }
    assert not [
        path for path in smoke.dir.root.rglob("*") if ".staging" in path.name or path.suffix == ".tmp"
    ]
    assert (smoke.dir.attempt_logs(1) / "rank_1.log").exists()


def test_only_its_owner_can_look_into_it(smoke: Run):
    assert smoke.dir.root.stat().st_mode & 0o777 == 0o700


def test_no_secret_is_in_any_file(smoke: Run):
    for path in smoke.dir.root.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_the_journal_tells_the_story(smoke: Run):
    # `trained` comes while the last checkpoint is written in the background.
    kinds = [kind for kind in smoke.kinds() if kind not in ("phase", "trained")]
    told = ["submitted", "attempt", "kernels", "started", "data", "start"]
    told += ["checkpoint", "validation", "checkpoint", "finished"]
    assert kinds == told


def test_the_result_compares_base_and_tuned(smoke: Run):
    result = smoke.result
    assert result["outcome"] == "COMPLETED"
    assert result["evaluation"]["tuned"]["task"]["loss"] < result["evaluation"]["base"]["task"]["loss"]
    assert smoke.status.state == "COMPLETED"
    shown = command("results", str(smoke.dir.root)).stdout
    assert "Base against tuned" in shown
    assert json.loads(command("results", str(smoke.dir.root), "--json").stdout) == result


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
    again = command("export", str(run.dir.root), "--step", "5", "--out", str(tmp_path / "again"))
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
        "experiment=smoke",
        ONE_RANK,
        "train.max_steps=2",
        "eval.base=false",
        "eval.num_samples=2",
        "eval.answer_tokens=4",
    )
    assert [entry["base"] for entry in run.result["answers"]] == [None, None]
    shown = command("results", run.dir.root.name).stdout
    assert "Question 2" in shown
    assert "tuned" in shown


def test_the_same_config_again_shows_the_result_and_trains_nothing(smoke: Run, module_runs: Path):
    again = command("submit", "experiment=smoke", "tracking=offline", f"runs_dir={module_runs}", "--follow")
    assert again.returncode == 0
    assert "is finished: the same config was trained here before" in again.stdout
    assert smoke.kinds().count("submitted") == 1


def test_the_same_trial_cannot_be_made_more_open_on_the_way(smoke: Run, module_runs: Path):
    other = command(
        "submit", "experiment=smoke", "tracking=offline", "access=group", f"runs_dir={module_runs}"
    )
    assert other.returncode == 2
    assert "access was 'private' and would become 'group'" in " ".join(other.stderr.split())


def test_wandb_offline_keeps_one_run_in_the_directory(smoke: Run):
    [offline] = smoke.dir.root.glob("wandb/offline-run-*")
    wandb_id = json.loads(smoke.dir.plan.read_text())["training"]["wandb_id"]
    assert (offline / f"run-{wandb_id}.wandb").stat().st_size > 0


@pytest.mark.parametrize("key", ["", "x" * 40])
def test_wandb_without_key_or_server_harms_nothing(key: str):
    run = finish(
        "experiment=smoke",
        ONE_RANK,
        "tracking=online",
        "train.max_steps=3",
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY=key,
        HOME="/nonexistent",
    )
    assert len(run.losses()) == 3
    assert [row for row in run.events if row["event"] == "tracking"]


def test_the_frozen_code_is_what_runs(runs: Path):
    run = start("experiment=smoke", ONE_RANK, "train.max_steps=5000")
    code = json.loads((run.dir.code / "code.json").read_text())
    assert code["versions"]["torch"].startswith("2.")
    run.wait_for_step(1)
    run.stop()
    loop = run.dir.code / "train" / "loop.py"
    marker = "frozen code speaking"
    loop.write_text(loop.read_text().replace("def run(context", f"print('{marker}')\n\n\ndef run(context"))
    command("resume", run.dir.root.name)
    run.wait_for_step(run.status.step + 1)
    command("cancel", run.dir.root.name)
    assert marker in (run.dir.attempt_logs(2) / "rank_0.log").read_text()


def test_a_stop_while_the_ranks_start_is_neither_lost_nor_a_crash(runs: Path):
    run = start("experiment=smoke", "train.max_steps=5000")
    while not run.dir.attempt_logs(1).exists():
        time.sleep(0.005)
    run.agent().send_signal(signal.SIGTERM)
    status = run.wait_for("PREEMPTED")
    assert status.restarts == 0
    assert status.step < 100
    assert "crashed" not in run.kinds()


@pytest.fixture(scope="module")
def running(module_runs: Path) -> Iterator[tuple[Run, list[dict[str, object]], list[int]]]:
    """A long run, what two submits at once said of it, and their exit codes. The last test of it ends it."""
    words = [*COMMAND, "submit", *RUNNING, f"runs_dir={module_runs}", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    [folder] = [path for path in module_runs.iterdir() if path.name.startswith("running-")]
    run = Run(RunDir(folder))
    run.wait_for_step(1)
    yield run, answers, [process.returncode for process in both]
    command("cancel", str(run.dir.root))


def test_of_two_submits_at_once_one_starts_the_run(running):
    run, answers, codes = running
    assert sorted(codes) == [0, 3]
    assert sum("job_id" in answer for answer in answers) == 1
    assert len(run.ranks()) == 2


def test_a_running_run_is_not_started_twice(running, module_runs: Path):
    run = running[0]
    for arguments in (("submit", *RUNNING, f"runs_dir={module_runs}"), ("resume", str(run.dir.root))):
        again = command(*arguments)
        assert again.returncode == 3
        assert "is running already" in again.stderr


def test_cancel_leaves_no_process(running):
    run = running[0]
    family = [run.agent(), *run.ranks()]
    assert command("cancel", str(run.dir.root)).returncode == 0
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running()]
    assert run.status.state == "CANCELLED"
    assert "was not running" in command("cancel", str(run.dir.root)).stdout


def test_submit_returns_at_once_and_the_run_outlives_its_shell(runs: Path):
    """And its logs are followed from the start to the end."""
    shell = subprocess.Popen(
        [*COMMAND, "submit", "experiment=smoke", "train.max_steps=60", "--json"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    answer, _ = shell.communicate(timeout=30)
    # What a closed terminal does to everything that still belongs to it.
    for process in psutil.process_iter():
        if os.getsid(process.pid) == shell.pid:
            process.send_signal(signal.SIGHUP)
    run = Run(RunDir(Path(json.loads(answer)["dir"])))
    assert run.status.state in ("PENDING", "RUNNING")
    followed = command("logs", "-f", "--json", run.dir.root.name).stdout.splitlines()
    assert (run.status.state, run.status.step) == ("COMPLETED", 60)
    assert {json.loads(line)["source"] for line in followed} >= {"rank 0", "node 0"}
    (run.dir.attempt_logs(1) / "rank_1.log").write_text("said by one\n")
    assert command("logs", run.dir.root.name, "--rank", "1").stdout == "[rank 1] said by one\n"


def test_changed_data_is_another_run(write_rows: Callable[..., Path], runs: Path):
    """A stopped run neither goes on with it, nor does the same config take its place."""
    path = write_rows("rows.jsonl", [conversation(f"q{n}", "a") for n in range(40)])
    settings = ("experiment=smoke", ONE_RANK, f"data.train={path}", "train.max_steps=5000")
    run = start(*settings)
    run.wait_for_step(2)
    run.stop()
    path.write_text(path.read_text().replace("q1", "changed"))
    again = command("submit", *settings)
    assert again.returncode == 3
    assert f"was trained on another content of {path}" in " ".join(again.stderr.split())
    done = command("resume", run.dir.root.name, "--follow")
    assert done.returncode == 4
    assert "changed since the run was planned" in done.stdout


def test_a_run_that_diverges_says_so(runs: Path):
    done = command(
        "submit",
        "experiment=smoke",
        ONE_RANK,
        "optim.lr=1e30",
        "optim.clip_norm=0",
        "zero=stage0",
        "--follow",
    )
    assert done.returncode == 4
    told = " ".join(done.stdout.split())
    assert "the run diverged at step" in told
    assert "no checkpoint was made before; lower optim.lr" in told


def test_a_row_that_turns_out_untrainable_fails_the_run_with_its_place(write_rows: Callable[..., Path]):
    rows = [{"messages": [{"role": "user", "content": "long " * 400}, {"role": "assistant", "content": "x"}]}]
    path = write_rows("rows.jsonl", rows)
    done = command("submit", "experiment=smoke", ONE_RANK, f"data.train={path}", "--follow")
    assert done.returncode == 4
    assert f"1 rows have no trained token within data.max_length=256: {path}:1" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("format_name", "row"),
    [("text", {"text": "some plain text"}), ("prompt_completion", {"prompt": "1 + 1 = ", "completion": "2"})],
)
def test_other_formats_train_too(format_name: str, row: dict[str, str], write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [row] * 16)
    run = finish(
        "experiment=smoke",
        ONE_RANK,
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
        "experiment=smoke",
        ONE_RANK,
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

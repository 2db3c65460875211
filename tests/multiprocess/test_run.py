"""One finished run as its user meets it: directory, journal, result, what is refused afterwards."""

import json
from pathlib import Path

import pytest

from tests.multiprocess.runs import Run, call, finish

CANARY = "canary-8c1f"
SMOKE = ("experiment=smoke", "train.precision=fp32", "tracking=offline")


@pytest.fixture(scope="module")
def smoke(module_runs: Path) -> Run:
    """By the command: submitted, followed to its end, and never changed by the tests."""
    return finish(
        *SMOKE,
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
    shown = call("results", str(smoke.dir.root)).stdout
    assert "Base against tuned" in shown
    assert json.loads(call("results", str(smoke.dir.root), "--json").stdout) == result


def test_the_same_config_again_shows_the_result_and_trains_nothing(smoke: Run, module_runs: Path):
    again = call("submit", *SMOKE, f"runs_dir={module_runs}", "--follow")
    assert again.returncode == 0
    assert "is already finished: the same config was trained before" in again.stdout
    assert smoke.kinds().count("submitted") == 1


def test_the_same_trial_cannot_be_made_more_open_on_the_way(smoke: Run, module_runs: Path):
    other = call("submit", *SMOKE, "access=group", f"runs_dir={module_runs}")
    assert other.returncode == 2
    assert "cannot change access from 'private' to 'group'" in " ".join(other.stderr.split())


def test_wandb_offline_keeps_one_run_in_the_directory(smoke: Run):
    [offline] = smoke.dir.root.glob("wandb/offline-run-*")
    wandb_id = json.loads(smoke.dir.plan.read_text())["training"]["wandb_id"]
    assert (offline / f"run-{wandb_id}.wandb").stat().st_size > 0

"""The command as a process: speed of --help, imports, exit codes, JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "datasets", "deepspeed", "sklearn")
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_help_names_every_verb(shardline: Command):
    done = shardline("--help")
    assert done.returncode == 0
    for verb in ("plan", "submit", "status", "logs", "results", "resume", "cancel"):
        assert f"    {verb} " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plan", "experiment=smoke"], ["status"], ["submit", "experiment=smoke", "--dry-run"]],
)
def test_the_login_side_imports_nothing_heavy(arguments: list[str], tmp_path: Path):
    assert _imported(arguments, tmp_path).isdisjoint(HEAVY)


def test_status_is_there_at_once(tmp_path: Path):
    """What is typed a hundred times a day does without what only configs and plans need."""
    assert _imported(["status"], tmp_path).isdisjoint({"pydantic", "numpy", "hydra", "omegaconf"})


def _imported(arguments: list[str], folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "launcher", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "launcher" in imported
    return imported


def test_plan_json_has_the_stable_fields(shardline: Command):
    done = shardline("plan", "experiment=smoke", "--json")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert plan["ok"] is True
    assert plan["problems"] == []
    assert set(plan) >= {"batch", "memory", "time", "disk", "sbatch", "deepspeed"}
    assert plan["kernels"]["rope"] == {"name": "torch", "why": "liger runs on cuda only"}


def test_a_plan_says_which_kernels_engage_and_why_not(shardline: Command):
    said = " ".join(shardline("plan", "experiment=smoke").stdout.split())
    assert "rms_norm, swiglu, rope: torch (liger runs on cuda only)" in said
    assert "attention: sdpa (in place of scores of tokens x tokens kept in memory;" in said
    assert "cpu_adam serves zero.offload_optimizer=true only" in said


def test_a_kernel_that_no_compiler_can_make_is_refused_by_the_plan(shardline: Command, tmp_path: Path):
    named = ("plan", "experiment=smoke", "zero=stage2-offload", "kernels.optimizer=cpu_adam", "--json")
    done = shardline(*named, CXX="no-such-compiler", SHARDLINE_CACHE=str(tmp_path / "empty"))
    assert done.returncode == 2
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["field"] == "kernels.optimizer"
    assert "there is no c++ here" in problem["message"]
    assert "shardline doctor --build-ops" in problem["message"]


def test_plan_says_everything_once(shardline: Command):
    done = shardline("plan", "experiment=smoke")
    topics = [
        line.split()[0] for line in done.stdout.partition("DeepSpeed\n")[0].splitlines() if line[:1].strip()
    ]
    assert {"run", "memory", "kernels", "time"} <= set(topics)
    assert len(topics) == len(set(topics)), topics


def test_refusals_are_json_too_and_leave_nothing(shardline: Command, runs: Path):
    for verb in ("plan", "submit"):
        done = shardline(verb, "experiment=smoke", "train.global_batch_size=9", "--json")
        assert done.returncode == 2
        answer = json.loads(done.stdout)
        assert answer["ok"] is False
        assert set(answer["problems"][0]) == {"code", "field", "message", "fix"}
    assert not runs.exists()


def test_every_problem_is_shown_to_people_on_stderr(shardline: Command, runs: Path):
    done = shardline("submit", "experiment=smoke", "optim.lr=fast", "nope=1")
    assert done.returncode == 2
    assert "2 problems, nothing was created:" in done.stderr
    assert "did you mean" in done.stderr or "valid here" in done.stderr
    assert not runs.exists()


def test_exit_code_3_when_it_does_not_fit(shardline: Command):
    assert shardline("plan", "experiment=smoke", "hardware.node_mem_gb=0.5").returncode == 3


def test_dry_run_creates_nothing(shardline: Command, runs: Path):
    assert shardline("submit", "experiment=smoke", "--dry-run").returncode == 0
    assert not runs.exists()


def test_status_of_nothing_is_an_empty_list(shardline: Command):
    assert json.loads(shardline("status", "--json").stdout) == []


@pytest.mark.parametrize("verb", ["status", "logs", "results", "resume", "cancel"])
def test_an_unknown_run_is_a_user_error(shardline: Command, verb: str):
    done = shardline(verb, "nothing")
    assert done.returncode == 2
    assert "there is no run 'nothing'" in done.stderr


def test_a_users_train_py_is_named(tmp_path: Path):
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')\n")
    environ = {**os.environ, "PYTHONPATH": ""}
    shadowed = subprocess.run(
        [sys.executable, "-m", "launcher", "plan", "experiment=smoke"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    safe = subprocess.run(
        [sys.executable, "-P", "-m", "launcher", "plan", "experiment=smoke"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shadowed.returncode == 2
    assert str(tmp_path / "train.py") in shadowed.stderr
    assert safe.returncode == 0

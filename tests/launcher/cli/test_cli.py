"""The command as a process: speed of --help, imports, exit codes, JSON."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.cli.output import make_console
from launcher.cli.parser import all_verbs, make_parser
from launcher.cli.show.plan import show_plan
from launcher.cli.verb import Verb
from launcher.cli.verbs import GROUPS
from launcher.compose.run import compose_run
from launcher.planning.preflight import examine

HEAVY = ("torch", "transformers", "datasets", "deepspeed", "sklearn")
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_help_lists_the_verbs_by_group(shardline: Command):
    done = shardline("--help")
    assert done.returncode == 0
    for group, verbs in {
        "run": ("plan", "submit", "resume", "stop", "cancel"),
        "look": ("status", "logs", "results", "report"),
        "sweeps": ("refine",),
        "checkpoints": ("checkpoints", "export"),
        "machine": ("doctor", "rehearse", "devcluster", "completion"),
    }.items():
        block = done.stdout.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        assert tuple(line.split()[0] for line in block.splitlines()) == verbs
    assert max(map(len, done.stdout.splitlines())) <= 104


@pytest.mark.parametrize("verb", all_verbs(), ids=lambda verb: verb.name)
def test_every_verb_has_help_and_an_example_that_parses(verb: Verb):
    assert verb.help[0].isupper()
    assert not verb.help.endswith(".")
    [subparsers] = [action for action in make_parser()._actions if isinstance(action.choices, dict)]
    assert isinstance(subparsers.choices, dict)
    assert f"example: {verb.example}" in subparsers.choices[verb.name].format_help()
    for command in re.findall(r"shardline ([^)|]+)", verb.example):
        assert make_parser().parse_args(shlex.split(command)).verb is verb


def test_a_new_verb_is_one_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name")

    verb = Verb(
        name="greet",
        help="Greet a person",
        example="shardline greet Ada",
        options=options,
        run=lambda given: len(given.name),
    )
    monkeypatch.setitem(GROUPS, "people", (verb,))
    monkeypatch.setattr(os, "umask", lambda _: 0)
    with pytest.raises(SystemExit) as ended:
        main(["greet", "Ada"])
    assert ended.value.code == 3
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "people:\n  greet        Greet a person\n" in capsys.readouterr().out


def test_an_unknown_verb_is_refused_with_the_nearest_one(shardline: Command):
    done = shardline("statsu")
    assert done.returncode == 2
    assert "unknown verb 'statsu': did you mean status?" in done.stderr


def test_an_invalid_regular_expression_is_refused(shardline: Command, runs: Path):
    (runs / "r-1").mkdir(parents=True)
    (runs / "r-1" / "plan.json").write_text("{}")
    done = shardline("logs", "r", "--grep", "x(")
    assert done.returncode == 2
    assert "--grep: invalid regular expression 'x(': missing )" in done.stderr
    assert "-> fix the pattern" in done.stderr


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
    assert plan["kernels"]["rope"] == {"name": "torch", "why": "liger runs only on cuda"}


def test_a_plan_shows_decisions_and_with_verbose_their_reasons(shardline: Command):
    short = shardline("plan", "experiment=smoke").stdout
    kernels = " ".join(short.partition("kernels")[2].partition("\n\n")[0].split())
    assert kernels == (
        "loss_head: chunked cross entropy rms_norm, swiglu, rope: torch attention: PyTorch SDPA"
        " optimizer: fused AdamW"
    )
    assert "train_batch_size" not in short
    assert "add -v" in short
    verbose = shardline("plan", "experiment=smoke", "-v").stdout
    assert '"train_batch_size": 8' in verbose
    joined = " ".join(verbose.split())
    assert "rms_norm, swiglu, rope: torch (liger runs only on cuda)" in joined
    assert "cpu_adam needs zero.offload_optimizer=true" in joined


def test_the_sbatch_script_is_shown_with_verbose_only(capsys: pytest.CaptureFixture[str]):
    plan, _ = examine(compose_run(["experiment=smoke", "slurm=cluster", "slurm.partition=gpu"]))
    assert plan is not None
    show_plan(make_console(), plan, verbose=False)
    short = capsys.readouterr().out
    assert "#SBATCH" not in short
    assert "for DeepSpeed's configuration, the sbatch script and rejected kernels, add -v" in short
    show_plan(make_console(), plan, verbose=True)
    shown = capsys.readouterr().out
    assert plan.sbatch
    assert plan.sbatch in shown


def test_a_kernel_that_no_compiler_can_make_is_refused_by_the_plan(shardline: Command, tmp_path: Path):
    named = ("plan", "experiment=smoke", "zero=stage2-offload", "kernels.optimizer=cpu_adam", "--json")
    done = shardline(*named, CXX="no-such-compiler", SHARDLINE_CACHE=str(tmp_path / "empty"))
    assert done.returncode == 2
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["field"] == "kernels.optimizer"
    assert "c++ is missing here" in problem["message"]
    assert "shardline doctor --build-ops" in problem["message"]


def test_plan_says_everything_once(shardline: Command):
    done = shardline("plan", "experiment=smoke")
    topics = [line.split()[0] for line in done.stdout.splitlines() if line[:1].strip()]
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
    assert "unknown run 'nothing'" in done.stderr


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

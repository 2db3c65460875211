"""What is frozen into a run directory, and whose directories are touched."""

import os
from pathlib import Path

import pytest

from launcher.errors import Refused
from launcher.lifecycle import snapshot
from launcher.lifecycle.cancel import stop_run
from launcher.lifecycle.secrets import refuse_secrets_in, secret_values
from launcher.lifecycle.snapshot import freeze_code, frozen_files
from launcher.records.runs import ensure_ours, stage_run
from tests.conftest import ROOT
from tests.launcher.status.test_status import make_run
from tests.test_architecture import imports
from train.rundir import RunDir


def test_only_sources_are_frozen(tmp_path: Path):
    freeze_code(tmp_path / "code")
    kinds = {path.suffix for path in (tmp_path / "code").rglob("*") if path.is_file()}
    assert kinds <= {".py", ".json", ".diff"}
    assert (tmp_path / "code" / "launcher" / "node" / "epilog.py").is_file()


RUN_BY_JOBS = (
    "launcher.node.entry",
    "launcher.node.epilog",
    "launcher.node.trial",
    "slurm.executor",
    "train.node.forkserver",
    "train.worker",
)


def test_all_that_jobs_import_is_frozen():
    """Followed through every import of ours, also those inside functions."""
    frozen, todo, seen = frozen_files(), [*RUN_BY_JOBS, "train.export"], set()
    while todo:
        module = todo.pop()
        names = [f"{module.replace('.', '/')}{ending}" for ending in (".py", "/__init__.py")]
        path = next((ROOT / name for name in names if (ROOT / name).is_file()), None)
        if path is None or module in seen:
            continue
        seen.add(module)
        assert str(path.relative_to(ROOT)) in frozen, f"a job imports {module}, and it is not frozen"
        todo += [name for name in imports(path) if name.split(".")[0] in ("launcher", "slurm", "train")]
        todo += [module.rpartition(".")[0]] if "." in module else []
    assert len(seen) > 50


def test_sources_that_are_too_large_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshot, "_LARGEST_BYTES", 1000)
    with pytest.raises(Refused, match=r"largest files: [\w/]+\.py 0\.0 MB, ") as refusal:
        freeze_code(tmp_path / "code")
    assert refusal.value.problems[0].code == "code.size"
    assert not (tmp_path / "code").exists()


def test_a_secret_in_what_is_frozen_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("KEYBOARD", "us-international")
    assert "KEYBOARD" not in secret_values(os.environ)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "dirty.diff").write_text("+key = '0123456789abcdef'\n")
    with pytest.raises(Refused, match=r"contains the value of \$WANDB_API_KEY") as refusal:
        refuse_secrets_in(tmp_path)
    assert refusal.value.problems[0].field == "code/dirty.diff"


def test_a_secret_on_the_command_line_leaves_nothing_behind(shardline, runs: Path):
    done = shardline(
        "submit", "experiment=smoke", "tracking.tags=[abcdefgh12345678]", MY_API_KEY="abcdefgh12345678"
    )
    assert done.returncode == 2
    assert "$MY_API_KEY" in done.stderr
    assert not list(runs.glob("*"))


def test_a_link_in_a_runs_place_is_not_followed(runs: Path, tmp_path: Path):
    real = make_run(tmp_path / "elsewhere")
    runs.mkdir()
    (runs / "r-1234").symlink_to(real.root)
    with pytest.raises(Refused, match="is a symbolic link"):
        stop_run(RunDir(runs / "r-1234"))
    assert not real.stop_request.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_run_is_not_touched(runs: Path):
    run = make_run(runs)
    ensure_ours(run)
    os.chown(run.root, 12345, os.getgid())
    with pytest.raises(Refused, match="belongs to another user"):
        ensure_ours(run)
    run.root.chmod(0o2770)
    ensure_ours(run)


def test_only_a_running_run_can_be_stopped(runs: Path):
    run = make_run(runs)
    with pytest.raises(Refused, match="is failed, not running"):
        stop_run(run)


@pytest.mark.parametrize(("access", "mode"), [("private", 0o700), ("group", 0o2770)])
def test_a_new_run_is_as_open_as_asked(runs: Path, access: str, mode: int):
    before = os.umask(0o022)
    run = stage_run(runs / "x-1", access)
    os.umask(before)
    assert run.root.stat().st_mode & 0o7777 == mode
    assert run.logs.stat().st_mode & 0o777 == mode & 0o777

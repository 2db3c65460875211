"""Finding and making run directories."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from launcher.config import Access, RunConfig
from launcher.errors import nearest, refuse
from train.rundir import RunDir


def runs_root() -> Path:
    """$SHARDLINE_RUNS, or ./runs."""
    return Path(os.environ.get("SHARDLINE_RUNS") or "runs").expanduser().resolve()


def all_runs(root: Path) -> list[RunDir]:
    """Every run under a root, newest first."""
    if not root.is_dir():
        return []
    found = [RunDir(path) for path in root.iterdir() if _is_run(path)]
    return sorted(found, key=lambda run: run.plan.stat().st_mtime, reverse=True)


def find_run(name: str) -> RunDir:
    """A run by directory, by name, or by the start of its name when only one fits.

    Raises:
        Refused: none or several fit.
    """
    path = Path(name)
    if _is_run(path):
        return RunDir(path.resolve())
    runs = {run.root.name: run for run in all_runs(runs_root())}
    fitting = [run for run_name, run in runs.items() if run_name == name] or [
        run for run_name, run in runs.items() if run_name.startswith(name)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(run.root.name for run in fitting)
        raise refuse("run.ambiguous", "RUN", f"{name!r} fits several runs: {names}", "give more of the name")
    hint = nearest(name, runs) if runs else "shardline submit makes the first one"
    raise refuse("run.unknown", "RUN", f"there is no run {name!r} under {runs_root()}", hint)


def ensure_ours(run: RunDir) -> None:
    """Refuse to act on what somebody else has put in a run's place.

    Raises:
        Refused: the directory is a link, or another user's and not shared with this one's group.
    """
    facts = run.root.lstat()
    if stat.S_ISLNK(facts.st_mode):
        raise refuse("run.link", "RUN", f"{run.root} is a symbolic link", "name the directory itself")
    shared = facts.st_mode & 0o020 and facts.st_gid in (os.getegid(), *os.getgroups())
    if facts.st_uid != os.getuid() and not shared:
        raise refuse("run.owner", "RUN", f"{run.root} belongs to another user", "ask them, or copy it")


def as_yaml(values: Mapping[str, Any]) -> str:
    """A config as run directories keep it."""
    return yaml.safe_dump(dict(values), sort_keys=False)


def load_config(run: RunDir) -> RunConfig:
    """What a run was last submitted with."""
    return RunConfig.model_validate(yaml.safe_load(run.config.read_text()))


def name_to_type(run: RunDir) -> str:
    """What finds this run again: its name, or its path when it lies outside the runs root."""
    return run.root.name if run.root.parent == runs_root() else str(run.root)


def stage_run(final: Path, access: Access) -> RunDir:
    """A new directory beside the final place, to be filled and renamed; private, or its group's as well."""
    run = RunDir(stage_directory(final, access))
    run.logs.mkdir()
    return run


def stage_directory(final: Path, access: Access) -> Path:
    """As `stage_run`, but empty."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{os.uname().nodename}.{os.getpid()}.new")
    staged.mkdir(mode=0o700)
    if access == "group":
        staged.chmod(0o2770)
    RunDir(staged).adopt_umask()
    return staged


def _is_run(path: Path) -> bool:
    return not path.name.startswith(".") and (path / "plan.json").is_file()

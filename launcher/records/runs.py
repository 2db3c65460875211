"""Finding and making run directories."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from launcher.errors import nearest, refuse
from launcher.records.sweeps import SweepDir
from train.config_names import with_current_names
from train.rundir import JournaledDir, RunDir

if TYPE_CHECKING:  # looking at runs does without pydantic, half of the time that it would take
    from launcher.config import Access, RunConfig

Answer = TypeVar("Answer")


def runs_root() -> Path:
    """$SHARDLINE_RUNS, or ./runs."""
    return Path(os.environ.get("SHARDLINE_RUNS") or "runs").expanduser().resolve()


def all_runs(root: Path) -> list[RunDir]:
    """Every single run under a root, newest first; trials are their sweep's."""
    found = [RunDir(path) for path in _folders(root) if _is_run(path)]
    return sorted(found, key=lambda run: run.plan.stat().st_mtime, reverse=True)


def all_sweeps(root: Path) -> list[SweepDir]:
    """Every sweep under a root, newest first."""
    found = [SweepDir(path) for path in _folders(root) if SweepDir(path).exists()]
    return sorted(found, key=lambda sweep: sweep.file.stat().st_mtime, reverse=True)


def find(name: str) -> RunDir | SweepDir:
    """A run, a sweep or a trial: by directory, by name, or by the start of its name when only one fits.

    Raises:
        Refused: none or several fit.
    """
    for path in (Path(name), runs_root() / name):
        if _is_known(path):
            return _open(path.resolve())
    here = [folder for folder in _folders(runs_root()) if _is_known(folder)]
    trials = [
        trial for folder in here if SweepDir(folder).exists() for trial in _folders(folder) if _is_run(trial)
    ]
    for places in (here, trials):
        fitting = [place for place in places if place.name == name] or [
            place for place in places if place.name.startswith(name)
        ]
        if len(fitting) == 1:
            return _open(fitting[0])
        if fitting:
            names = ", ".join(name_to_type(_open(place)) for place in fitting)
            raise refuse("run.ambiguous", "RUN", f"{name!r} matches several: {names}", "give a longer name")
    names_here = [place.name for place in here]
    hint = nearest(name, names_here) if here else "start a first run: shardline submit experiment=smoke"
    raise refuse("run.unknown", "RUN", f"unknown run {name!r} in {runs_root()}", hint)


def on_run_or_sweep(
    name: str, run: Callable[[RunDir], Answer], sweep: Callable[[SweepDir], Answer]
) -> Answer:
    """Find what a name stands for and call the function for its kind; returns what that returns.

    Raises:
        Refused: no run, sweep or trial has this name, or several have.
    """
    found = find(name)
    return sweep(found) if isinstance(found, SweepDir) else run(found)


def find_run(name: str) -> RunDir:
    """As `find`, for what only single runs and trials can do.

    Raises:
        Refused: none or several fit, or it is a sweep.
    """
    found = find(name)
    if isinstance(found, SweepDir):
        raise refuse(
            "run.sweep",
            "RUN",
            f"{found.root.name} is a sweep; this command takes a single run",
            f"give one of its trials; to list them: shardline status {name}",
        )
    return found


def find_sweep(name: str) -> SweepDir:
    """As `find`, for what only sweeps can do.

    Raises:
        Refused: none or several fit, or it is a single run.
    """
    found = find(name)
    if isinstance(found, RunDir):
        raise refuse(
            "sweep.run", "SWEEP", f"{found.root.name} is a single run", "to make a sweep: shardline submit -m"
        )
    return found


def _open(path: Path) -> RunDir | SweepDir:
    return SweepDir(path) if SweepDir(path).exists() else RunDir(path)


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []


def _is_known(path: Path) -> bool:
    return _is_run(path) or SweepDir(path).exists()


def ensure_ours(run: JournaledDir) -> None:
    """Refuse to act on what somebody else has put in the place of a run or a sweep.

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


def config_values(run: RunDir) -> dict[str, Any]:
    """The plain values of run.yaml, under the current names of their keys."""
    return with_current_names(yaml.safe_load(run.config.read_text()))


def load_config(run: RunDir) -> "RunConfig":
    """What a run was last submitted with."""
    from launcher.config import RunConfig

    return RunConfig.model_validate(config_values(run))


def name_to_type(place: JournaledDir) -> str:
    """What finds this again: its name (a trial's with its sweep's), or its path outside the runs root."""
    root = place.root.resolve()
    return str(root.relative_to(runs_root())) if root.is_relative_to(runs_root()) else str(root)


def stage_run(final: Path, access: "Access") -> RunDir:
    """A new directory beside the final place, to be filled and renamed; private, or its group's as well."""
    run = RunDir(stage_directory(final, access))
    run.logs.mkdir()
    return run


def stage_directory(final: Path, access: "Access") -> Path:
    """As `stage_run`, but empty."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{os.uname().nodename}.{os.getpid()}.new")
    staged.mkdir(mode=0o700)
    if access == "group":
        staged.chmod(0o2770)
    JournaledDir(staged).adopt_umask()
    return staged


def _is_run(path: Path) -> bool:
    return not path.name.startswith(".") and (path / "plan.json").is_file()

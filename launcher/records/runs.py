"""Find, open and create run and sweep directories."""

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

if TYPE_CHECKING:  # reading runs without pydantic takes half of the time
    from launcher.config import Access, RunConfig

Answer = TypeVar("Answer")


def runs_root() -> Path:
    """Return the folder of runs: $SHARDLINE_RUNS, or ./runs."""
    return Path(os.environ.get("SHARDLINE_RUNS") or "runs").expanduser().resolve()


def all_runs(root: Path) -> list[RunDir]:
    """Return all runs under a root, newest first, without the trials of sweeps."""
    found = [RunDir(path) for path in _folders(root) if _is_run(path)]
    return sorted(found, key=lambda run: run.plan.stat().st_mtime, reverse=True)


def all_sweeps(root: Path) -> list[SweepDir]:
    """Return all sweeps under a root, newest first."""
    found = [SweepDir(path) for path in _folders(root) if SweepDir(path).exists()]
    return sorted(found, key=lambda sweep: sweep.file.stat().st_mtime, reverse=True)


def find(name: str) -> RunDir | SweepDir:
    """Find a run, a sweep or a trial by its directory, its name, or a unique prefix of its name.

    Raises:
        Refused: Nothing or more than one directory matches.
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
            message = f"{name!r} matches more than one run: {names}"
            raise refuse("run.ambiguous", "RUN", message, "type more of the name")
    names_here = [place.name for place in here]
    hint = nearest(name, names_here) if here else "start a first run: shardline submit experiment=smoke"
    raise refuse("run.unknown", "RUN", f"unknown run {name!r} in {runs_root()}", hint)


def on_run_or_sweep(
    name: str, run: Callable[[RunDir], Answer], sweep: Callable[[SweepDir], Answer]
) -> Answer:
    """Find a run or sweep by name, call the function for its kind, and return the result.

    Args:
        name: Directory, name or prefix, as for `find`.
        run: Called with a run or trial.
        sweep: Called with a sweep.

    Raises:
        Refused: Nothing or more than one directory matches.
    """
    found = find(name)
    return sweep(found) if isinstance(found, SweepDir) else run(found)


def find_run(name: str) -> RunDir:
    """Find a run or trial.

    Raises:
        Refused: Nothing or more than one directory matches, or it is a sweep.
    """
    found = find(name)
    if isinstance(found, SweepDir):
        raise refuse(
            "run.sweep",
            "RUN",
            f"{found.root.name} is a sweep; this command needs a single run",
            f"name one of its trials; to list them, run: shardline status {name}",
        )
    return found


def find_sweep(name: str) -> SweepDir:
    """Find a sweep.

    Raises:
        Refused: Nothing or more than one directory matches, or it is a single run.
    """
    found = find(name)
    if isinstance(found, RunDir):
        raise refuse(
            "sweep.run",
            "SWEEP",
            f"{found.root.name} is a single run; this command needs a sweep",
            "name a sweep; to start one, run: shardline submit -m",
        )
    return found


def _open(path: Path) -> RunDir | SweepDir:
    return SweepDir(path) if SweepDir(path).exists() else RunDir(path)


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []


def _is_known(path: Path) -> bool:
    return _is_run(path) or SweepDir(path).exists()


def ensure_ours(run: JournaledDir) -> None:
    """Check that a run or sweep directory belongs to this user or is shared with a group of this user.

    Raises:
        Refused: The directory is a symbolic link, or belongs to another user and is not shared.
    """
    facts = run.root.lstat()
    if stat.S_ISLNK(facts.st_mode):
        raise refuse("run.link", "RUN", f"{run.root} is a symbolic link", f"use {run.root.resolve()}")
    shared = facts.st_mode & 0o020 and facts.st_gid in (os.getegid(), *os.getgroups())
    if facts.st_uid != os.getuid() and not shared:
        fix = "ask its owner, or work on a copy of the directory"
        raise refuse("run.owner", "RUN", f"{run.root} belongs to another user", fix)


def as_yaml(values: Mapping[str, Any]) -> str:
    """Format a config as it is stored in run directories."""
    return yaml.safe_dump(dict(values), sort_keys=False)


def config_values(run: RunDir) -> dict[str, Any]:
    """Read the plain values of run.yaml, with the current names of renamed keys."""
    return with_current_names(yaml.safe_load(run.config.read_text()))


def load_config(run: RunDir) -> "RunConfig":
    """Load the config with which a run was last submitted."""
    from launcher.config import RunConfig

    return RunConfig.model_validate(config_values(run))


def name_to_type(place: JournaledDir) -> str:
    """Return the name for the command line: relative to the folder of runs, or the path if outside of it."""
    root = place.root.resolve()
    return str(root.relative_to(runs_root())) if root.is_relative_to(runs_root()) else str(root)


def stage_run(final: Path, access: "Access") -> RunDir:
    """Create a temporary run directory beside the final one, to be filled and renamed."""
    run = RunDir(stage_directory(final, access))
    run.logs.mkdir()
    return run


def stage_directory(final: Path, access: "Access") -> Path:
    """Create an empty temporary directory beside the final one, with the modes for `access`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{os.uname().nodename}.{os.getpid()}.new")
    staged.mkdir(mode=0o700)
    if access == "group":
        staged.chmod(0o2770)
    JournaledDir(staged).adopt_umask()
    return staged


def _is_run(path: Path) -> bool:
    return not path.name.startswith(".") and (path / "plan.json").is_file()

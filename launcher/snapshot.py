"""The code that a run uses, frozen into its directory: what is edited later changes nothing."""

import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from launcher.shadow import PACKAGES
from train.rundir import write_atomic, write_json

_NOTABLE = ("torch", "deepspeed", "transformers", "datasets", "hydra-core", "submitit", "wandb", "numpy")


def freeze_code(destination: Path) -> None:
    """Copy the three packages' sources and record where they came from."""
    home = Path(__file__).resolve().parent.parent
    for package in PACKAGES:
        for source in sorted((home / package).rglob("*.py")):
            target = destination / source.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    diff = _git(home, "diff", "HEAD", "--", *PACKAGES)
    if diff:
        write_atomic(destination / "dirty.diff", diff)
    write_json(
        destination / "code.json",
        {
            "git_commit": _git(home, "rev-parse", "HEAD").strip() or None,
            "git_dirty": bool(_git(home, "status", "--porcelain", "--", *PACKAGES).strip()),
            "python": sys.version.split()[0],
            "versions": {name: number for name, number in _versions() if name in _NOTABLE},
            "all_versions": dict(_versions()),
        },
    )


def _versions() -> list[tuple[str, str]]:
    return sorted((dist.metadata["Name"], dist.version) for dist in distributions())


def _git(home: Path, *arguments: str) -> str:
    """Git's answer, or nothing outside a checkout of this project."""
    if not (home / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""

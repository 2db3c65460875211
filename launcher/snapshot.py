"""The code that a run uses, frozen into its directory: what is edited later changes nothing."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from launcher.errors import refuse
from launcher.shadow import PACKAGES
from train.rundir import write_atomic, write_json

_LARGEST_BYTES = 20_000_000
_NOTABLE = ("torch", "deepspeed", "transformers", "datasets", "hydra-core", "submitit", "wandb", "numpy")


def freeze_code(destination: Path) -> None:
    """Copy the three packages' sources and record where they came from: no data, no other file.

    Raises:
        Refused: the sources are larger than sources are.
    """
    home = Path(__file__).resolve().parent.parent
    sources = {package: sorted((home / package).rglob("*.py")) for package in PACKAGES}
    _refuse_large([source for found in sources.values() for source in found], home)
    for found in sources.values():
        for source in found:
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
            "versions": {name: number for name, number in versions().items() if name in _NOTABLE},
            "all_versions": versions(),
        },
    )


def _refuse_large(sources: Sequence[Path], home: Path) -> None:
    sizes = {source: source.stat().st_size for source in sources}
    if sum(sizes.values()) <= _LARGEST_BYTES:
        return
    biggest = sorted(sizes, key=lambda source: -sizes[source])[:3]
    total_mb, limit_mb = sum(sizes.values()) / 1e6, _LARGEST_BYTES / 1e6
    named = ", ".join(f"{source.relative_to(home)} {sizes[source] / 1e6:.1f} MB" for source in biggest)
    raise refuse(
        "code.size",
        "code",
        f"the sources have {total_mb:.1f} MB, at most {limit_mb:.0f} MB are kept; the biggest: {named}",
        "move what is not code out of launcher/, slurm/ and train/",
    )


@cache
def versions() -> dict[str, str]:
    """Every installed package."""
    return dict(sorted((dist.metadata["Name"], dist.version) for dist in distributions()))


def _git(home: Path, *arguments: str) -> str:
    """Git's answer, or nothing outside a checkout of this project."""
    if not (home / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""

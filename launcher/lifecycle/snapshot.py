"""The source code of a run, copied into its directory so that later edits do not affect the run."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from launcher.errors import refuse
from launcher.shadow import PACKAGES
from train.packages import RECORDED

_LARGEST_BYTES = 20_000_000
_LAUNCHER_ON_NODES = ("__init__.py", "config.py", "errors.py", "problems.py", "records/*.py", "node/*.py")
"""Files of the launcher that jobs import; a test checks this against the imports."""
_ENTRY = Path("launcher/node/entry.py")
"""The first file that a job of this version imports."""


def freeze_code(destination: Path) -> None:
    """Copy the sources that nodes run, and record their versions. No data or other files are copied.

    Raises:
        Refused: The sources are too large.
    """
    for name, content in frozen_files().items():
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def can_start(code: Path) -> bool:
    """Return whether this version can start jobs with frozen sources; older versions had another layout."""
    return code.is_symlink() or not code.is_dir() or (code / _ENTRY).is_file()


def freeze_again(code: Path) -> None:
    """Replace frozen sources atomically with those of this version.

    Raises:
        Refused: The sources are too large.
    """
    staged, former = code.with_name(".code.staging"), code.with_name(".code.former")
    for leftover in (staged, former):
        shutil.rmtree(leftover, ignore_errors=True)
    freeze_code(staged)
    code.rename(former)
    staged.rename(code)
    shutil.rmtree(former)


def zip_code(files: Mapping[str, bytes], destination: Path) -> None:
    """Write frozen sources to a zip archive that Python can import from, to be shared by many runs."""
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def frozen_files() -> dict[str, bytes]:
    """Return the contents of all files to freeze, by name.

    Raises:
        Refused: The sources are too large.
    """
    home = Path(__file__).resolve().parents[2]
    sources = [
        *(path for pattern in _LAUNCHER_ON_NODES for path in sorted((home / "launcher").glob(pattern))),
        *sorted((home / "slurm").glob("*.py")),
        *sorted((home / "train").rglob("*.py")),
    ]
    _refuse_large(sources, home)
    files = {source.relative_to(home).as_posix(): source.read_bytes() for source in sources}
    if diff := _git(home, "diff", "HEAD", "--", *PACKAGES):
        files["dirty.diff"] = diff.encode()
    origin = {
        "git_commit": _git(home, "rev-parse", "HEAD").strip() or None,
        "git_dirty": bool(_git(home, "status", "--porcelain", "--", *PACKAGES).strip()),
        "python": sys.version.split()[0],
        "versions": {name: number for name, number in versions().items() if name in RECORDED},
        "all_versions": versions(),
    }
    return {**files, "code.json": json.dumps(origin, indent=2).encode()}


def code_hash(files: Mapping[str, bytes]) -> str:
    """Return a hash of the Python sources, which does not depend on the state of git."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        if name.endswith(".py"):
            digest.update(f"{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def frozen_versions(code: Path) -> dict[str, str]:
    """Return the versions of the packages that affect results, as recorded in a folder or archive of code."""
    found: dict[str, str] = frozen_origin(code)["versions"]
    return found


def frozen_origin(code: Path) -> dict[str, Any]:
    """Return the git state, Python version and package versions recorded in a folder or archive of code."""
    place = zipfile.Path(code, "code.json") if code.is_file() else code / "code.json"
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


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
        f"the sources take {total_mb:.1f} MB (limit: {limit_mb:.0f} MB); largest files: {named}",
        "move files that are not code out of launcher/, slurm/ and train/",
    )


@cache
def versions() -> dict[str, str]:
    """Return the version of every installed package."""
    return dict(sorted((dist.metadata["Name"], dist.version) for dist in distributions()))


def _git(home: Path, *arguments: str) -> str:
    """Return the output of a git command, or an empty string outside a checkout of this project."""
    if not (home / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""

"""The cache of prepared models, data, folds and compiled kernels. Torch-free."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def cache_dir() -> Path:
    """Return the cache folder: $SHARDLINE_CACHE, or ~/.cache/shardline."""
    root = os.environ.get("SHARDLINE_CACHE") or Path.home() / ".cache" / "shardline"
    return Path(root).expanduser().resolve()


def key_of(recipe: Any) -> str:
    """Return a hash of 24 hexadecimal digits of a recipe, which must be serialisable as JSON."""
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:24]


def made_once(path: Path, write: Callable[[Path], None], *, lock: Path | None = None) -> Path:
    """Make a file or folder unless it exists; only one process on this file system makes it.

    Args:
        path: The file or folder, which appears complete by a rename.
        write: Called with a path in the same folder, with the same suffix, to write the content.
        lock: The lock file; default: `path` with `.lock` appended.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(lock or f"{path}.lock"):
        if not path.exists():
            staging = path.with_name(f".staging_{path.name}")
            _remove(staging)
            write(staging)
            staging.rename(path)
    return path


def _remove(path: Path) -> None:
    """Delete leftovers of an interrupted process."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

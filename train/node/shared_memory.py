"""Removes shared memory left by killed ranks. Torch-free."""

import os
import time
from pathlib import Path

import psutil

_NAMES = ("nccl-*", "torch_*", "gloo_*", "sem.mp-*", "sem.loky-*", "psm_*")
_YOUNG_S = 60.0
"""Minimum age of files to remove: a process may not have opened a younger file yet."""


def sweep_shared_memory(folder: Path = Path("/dev/shm")) -> list[str]:  # noqa: S108 - the kernel's own
    """Remove leftovers of libraries in shared memory: this user's files that no live process has open.

    Returns:
        Names of the removed files.
    """
    if not folder.is_dir():
        return []
    old = [
        path
        for pattern in _NAMES
        for path in folder.glob(pattern)
        if path.lstat().st_uid == os.getuid() and time.time() - path.lstat().st_mtime > _YOUNG_S
    ]
    in_use = _mapped_paths() if old else set()
    removed = []
    for path in old:
        if str(path) not in in_use and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _mapped_paths() -> set[str]:
    """Return the files that this user's live processes have mapped or open."""
    paths: set[str] = set()
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                paths |= {entry.path for entry in process.memory_maps()}
                paths |= {entry.path for entry in process.open_files()}
        except (psutil.Error, OSError):
            continue
    return paths

"""Detects files that shadow Shardline's packages. Imports nothing of the project, so it can run first."""

import importlib.util
from pathlib import Path

PACKAGES = ("launcher", "train", "slurm")


def shadowing_file() -> str | None:
    """Return a message if another file would be imported instead of one of our packages, else None.

    `train.py` is a very common script name, and `python -m` searches the current folder first.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != home / name / "__init__.py":
            return (
                f"{origin} shadows Shardline's package {name}: rename it, or run the installed command"
                " `shardline` in another folder"
            )
    return None

"""Whether another `train.py` stands in the way of ours. Imports nothing of the project: that is the point."""

import importlib.util
from pathlib import Path

PACKAGES = ("launcher", "train", "slurm")


def shadowing_file() -> str | None:
    """A message naming the file that would be imported instead of one of our packages, or None.

    `train.py` is the commonest script name there is, and the current folder comes first on the path of
    `python -m`.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != home / name / "__init__.py":
            return (
                f"{origin} is imported instead of Shardline's own {name}: rename it, or start the installed"
                " command `shardline` from another folder"
            )
    return None

"""Values that must stand in no file: what the environment holds under names such as WANDB_API_KEY."""

import os
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import refuse
from slurm.values import SECRET_NAME

_SHORTEST = 8
"""Shorter values stand in texts by chance."""


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment's secrets, by name."""
    return {
        name: value for name, value in environ.items() if SECRET_NAME.search(name) and len(value) >= _SHORTEST
    }


def refuse_secrets_in(folder: Path) -> None:
    """Look through everything that was frozen for a run.

    Raises:
        Refused: a file holds a secret of this environment.
    """
    secrets = secret_values(os.environ)
    if not secrets:
        return
    for path in folder.rglob("*"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        for name, value in secrets.items():
            if value in text:
                raise refuse(
                    "run.secret",
                    str(path.relative_to(folder)),
                    f"the value of ${name} would stand in it",
                    "take it out of the config or the code: jobs inherit the environment",
                )

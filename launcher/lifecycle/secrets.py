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
    refuse_secrets(
        {
            str(path.relative_to(folder)): path.read_text(errors="replace")
            for path in folder.rglob("*")
            if path.is_file()
        }
    )


def refuse_secrets(texts: Mapping[str, str]) -> None:
    """Look through texts by name, before they are written.

    Raises:
        Refused: one of them holds a secret of this environment.
    """
    secrets = secret_values(os.environ)
    for where, text in texts.items():
        for name, value in secrets.items():
            if value in text:
                raise refuse(
                    "run.secret",
                    where,
                    f"the value of ${name} would stand in it",
                    "take it out of the config or the code: jobs inherit the environment",
                )

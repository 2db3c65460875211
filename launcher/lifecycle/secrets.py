"""Secrets in the environment, such as WANDB_API_KEY, that must not be written to any file."""

import os
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import refuse
from slurm.values import SECRET_NAME

_SHORTEST = 8
"""Shorter values may occur in texts by chance."""


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets in the environment, by name."""
    return {
        name: value for name, value in environ.items() if SECRET_NAME.search(name) and len(value) >= _SHORTEST
    }


def refuse_secrets_in(folder: Path) -> None:
    """Check all files in a folder for secrets.

    Raises:
        Refused: A file contains a secret of this environment.
    """
    refuse_secrets(
        {
            str(path.relative_to(folder)): path.read_text(errors="replace")
            for path in folder.rglob("*")
            if path.is_file()
        }
    )


def refuse_secrets(texts: Mapping[str, str]) -> None:
    """Check texts for secrets before they are written. The keys are the file names.

    Raises:
        Refused: A text contains a secret of this environment.
    """
    secrets = secret_values(os.environ)
    for where, text in texts.items():
        for name, value in secrets.items():
            if value in text:
                raise refuse(
                    "run.secret",
                    where,
                    f"{where} contains the value of ${name}",
                    "remove it from the config or the code: jobs inherit the environment",
                )

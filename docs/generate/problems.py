"""The table of problem codes."""

from docs.generate.values import table
from launcher.problems import MEANINGS


def section() -> str:
    """Every code and what it means."""
    return table(["code", "meaning"], [[f"`{code}`", meaning] for code, meaning in MEANINGS.items()])

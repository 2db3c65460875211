"""Facts made up for a test, so that rules are tested without looking at a machine."""

from pathlib import Path
from typing import Any

from launcher.planning.facts.machine import Facts


def made_facts(**changes: Any) -> Facts:
    """Facts of a machine with nothing but memory and disk space."""
    facts: dict[str, Any] = {
        "visible_gpus": 0,
        "gpu_mem_gb": None,
        "memory_gb": 64.0,
        "packages": frozenset(),
        "compiler_obstacle": None,
        "unbuildable": {},
        "python": "python",
        "earlier_starts": 0,
        "parent": Path("/runs"),
        "runs_place": Path("/runs"),
        "disk_free_gb": 1000.0,
        "model": None,
        "data": {},
        "fold": None,
        "labels": [],
        "chat_template": None,
    }
    return Facts(**{**facts, **changes})

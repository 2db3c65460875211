"""Facts made up for a test, so that rules are tested without looking at a machine."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from train.model.sources import ModelFiles


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


@cache
def _smoke() -> dict[str, Any]:
    return compose_run(["experiment=smoke"]).config.model_dump()


def config_with(changes: Mapping[str, Any]) -> RunConfig:
    """The config of `experiment=smoke` with some values changed, by dotted keys; checked as any other."""
    values = deepcopy(_smoke())
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
    return RunConfig.model_validate(values)


def found(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    """Code and field of each problem; every one has a message and a way to fix it."""
    listed = list(problems)
    assert all(problem.message and problem.fix for problem in listed)
    return [(problem.code, problem.field) for problem in listed]


def model_files(**config: Any) -> ModelFiles:
    """A model of which only config.json is known."""
    return ModelFiles(Path("/model"), {"model_type": "llama", **config})

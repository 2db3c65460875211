"""Rules for configs that stay on this machine and for those that are sent to Slurm."""

from pathlib import Path
from typing import Any

import pytest

from launcher.planning.rules import slurm as rules
from slurm.client import SlurmAwayError, SlurmError
from tests.launcher.planning.conftest import config_with, found, made_facts

NODES: dict[str, Any] = {
    "slurm.executor": "slurm",
    "hardware.device": "cuda",
    "hardware.gpus_per_node": 4,
    "slurm.time_min": 60,
    "slurm.signal_delay_s": 120,
    "runs_dir": "/scratch/runs",
}
ENVIRONMENT = [("slurm.environment", "slurm.environment.path")]


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The commands of Slurm on this machine: all that the rules look for, less what a test takes away."""
    names = {"sbatch", "srun"}
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name in names else None)
    return names


@pytest.mark.parametrize(
    ("changes", "gpus", "expected"),
    [
        ({}, 0, []),
        ({"slurm.time_min": 5, "slurm.signal_delay_s": 9}, 0, []),
        ({"slurm.partition": "gpu"}, 0, [("slurm.local", "slurm.partition")]),
        (
            {"slurm.nice": 5, "slurm.exclusive": True},
            0,
            [("slurm.local", "slurm.exclusive"), ("slurm.local", "slurm.nice")],
        ),
        ({"hardware.nodes": 2}, 0, [("hardware.nodes", "hardware.nodes")]),
        ({"hardware.device": "cuda", "hardware.gpus_per_node": 2}, 2, []),
        (
            {"hardware.device": "cuda", "hardware.gpus_per_node": 2},
            1,
            [("hardware.gpus", "hardware.gpus_per_node")],
        ),
        ({"hardware.device": "cpu", "hardware.gpus_per_node": 2}, 1, []),
        ({"slurm.executor": "slurm", "slurm.partition": "gpu", "hardware.nodes": 2}, 0, []),
    ],
)
def test_a_local_run_asks_for_nothing_of_a_queue(
    changes: dict[str, Any], gpus: int, expected: list[tuple[str, str]]
):
    assert found(rules.stays_local(config_with(changes), made_facts(visible_gpus=gpus))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"slurm.executor": "local", "hardware.device": "auto", "runs_dir": "/100%"}, []),
        ({"hardware.device": "auto"}, [("hardware.device", "hardware")]),
        ({"hardware.gpus_per_node": None}, [("hardware.device", "hardware")]),
        ({"slurm.gpus_per_node": 4}, []),
        ({"slurm.gpus_per_node": 3}, [("slurm.gpus", "slurm.gpus_per_node")]),
        ({"slurm.gpus_per_node": 3, "hardware.device": "cpu"}, []),
        ({"slurm.time_min": 2}, [("slurm.signal_delay", "slurm.signal_delay_s")]),
        ({"slurm.time_min": 2, "slurm.signal_delay_s": 119}, []),
        ({"slurm.environment.kind": "conda"}, ENVIRONMENT),
        ({"slurm.environment.kind": "apptainer"}, ENVIRONMENT),
        ({"slurm.environment.kind": "apptainer", "slurm.environment.path": "/images/a.sif"}, []),
        ({"slurm.environment.kind": "venv", "slurm.environment.path": "/none"}, ENVIRONMENT),
        ({"runs_dir": "/scratch/100%"}, [("runs_dir.name", "runs_dir")]),
        ({"runs_dir": "/scratch/it's"}, [("runs_dir.name", "runs_dir")]),
        ({"runs_dir": "/scratch/my runs/a+b@c"}, []),
    ],
)
def test_what_a_job_needs_to_be_sent(changes: dict[str, Any], expected: list[tuple[str, str]]):
    assert found(rules.goes_to_slurm(config_with({**NODES, **changes}), made_facts())) == expected


@pytest.mark.parametrize("kind", ["venv", "conda"])
def test_an_environment_with_a_python_is_used(tmp_path: Path, kind: str):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    changes = {"slurm.environment.kind": kind, "slurm.environment.path": str(tmp_path)}
    assert found(rules.goes_to_slurm(config_with({**NODES, **changes}), made_facts())) == []


@pytest.mark.parametrize("missing", ["sbatch", "srun"])
def test_both_commands_are_needed(commands: set[str], missing: str):
    commands.remove(missing)
    problems = rules.goes_to_slurm(config_with(NODES), made_facts())
    assert found(problems) == [("slurm.commands", "slurm.executor")]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [(None, False), (SlurmAwayError("no contact"), False), (SlurmError("invalid partition"), True)],
)
def test_the_queue_judges_a_script(monkeypatch: pytest.MonkeyPatch, answer: Exception | None, refused: bool):
    scripts = []

    def accept(script: str) -> None:
        scripts.append(script)
        if answer:
            raise answer

    monkeypatch.setattr(rules, "would_accept", accept)
    expected = [("slurm.refused", "slurm")] if refused else []
    assert found(rules.asks_the_queue("#!/bin/sh")) == expected
    assert scripts == ["#!/bin/sh"]


def test_without_sbatch_or_a_script_nobody_is_asked(commands: set[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules, "would_accept", lambda _: pytest.fail("the queue was asked"))
    assert found(rules.asks_the_queue(None)) == []
    commands.remove("sbatch")
    assert found(rules.asks_the_queue("#!/bin/sh")) == []

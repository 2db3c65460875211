"""Facts about this machine and the files that a config names, gathered once before planning."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import psutil

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.data import look_at_data
from launcher.planning.facts.folds import look_at_folds
from launcher.planning.facts.model import look_at_model
from launcher.records.jobs import intents
from train.config import DataRole
from train.job import DataFile, FoldPlan
from train.kernels.ops import OPS, why_not_buildable
from train.kernels.table import IMPLEMENTATIONS
from train.machine.toolchain import compiler_obstacle
from train.model.sources import ModelFiles
from train.rundir import RunDir

_OPTIONAL_PACKAGES = {entry.package for entry in IMPLEMENTATIONS if entry.package}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Inputs of the plan that are not in the config."""

    visible_gpus: int
    gpu_mem_gb: float | None
    """Memory of the smallest GPU here; None without a GPU, or if nvidia-smi does not report it."""
    memory_gb: float
    packages: frozenset[str]
    """Installed distributions among those that only some kernels need."""
    compiler_obstacle: str | None
    """Why code for CPUs cannot be compiled here; None if it can."""
    unbuildable: Mapping[str, str]
    """DeepSpeed ops that cannot be compiled here, each with the reason."""
    python: str
    """Path of the Python interpreter that submits. Nodes use it too unless slurm.environment sets another."""
    earlier_starts: int
    """Number of jobs of this run that were started before."""
    parent: Path
    """Parent folder of the run directory: the runs directory, or a sweep directory."""
    runs_place: Path
    """The runs directory if it exists, else its nearest existing ancestor."""
    disk_free_gb: float
    model: ModelFiles | None
    data: dict[DataRole, DataFile]
    fold: FoldPlan | None
    """None without a cross-validation, or if its folds cannot be made."""
    labels: list[str]
    chat_template: str | None
    """Content of the file that model.chat_template names."""


class Observer:
    """Gathers facts about the machine, models and data; facts shared by several configs are gathered once."""

    def __init__(self) -> None:
        """Start without any facts."""
        self._seen: dict[Any, Any] = {}

    def gather(self, config: RunConfig, parent: Path | None = None) -> tuple[Facts, list[Problem]]:
        """Gather the facts that planning a config needs.

        Args:
            config: The config to plan.
            parent: Parent folder of the run directory, if it is not config.runs_dir.

        Returns:
            The facts, and the problems that were found.
        """
        model_key = config.model.model_dump_json()
        data_key = config.model_dump_json(include={"data": True, "eval": {"general"}})
        model, problems = self._once(("model", model_key), lambda: look_at_model(config))
        data, labels, data_problems = self._once(("data", data_key), lambda: look_at_data(config))
        in_doubt = {"train"} if any(problem.field == "data.train" for problem in data_problems) else set()
        sound = {role: data[role] for role in data.keys() - in_doubt}
        fold_key = (data_key, config.cv.model_dump_json())
        folds, fold_problems = self._once(("folds", fold_key), lambda: look_at_folds(config, sound))
        machine = self._once(("machine", config.runs_dir), lambda: _machine(config))
        home = parent or Path(config.runs_dir)
        facts = Facts(
            **machine,
            parent=home,
            earlier_starts=0 if parent else len(intents(RunDir(home / config.run_name))),
            model=model,
            data={**data, **folds.data},
            fold=folds.plan,
            labels=labels,
            chat_template=self._once(("template", model_key), lambda: _chat_template(config)),
        )
        return facts, [*problems, *data_problems, *fold_problems]

    def _once(self, key: Any, look: Callable[[], Any]) -> Any:
        if key not in self._seen:
            self._seen[key] = look()
        return self._seen[key]


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _machine(config: RunConfig) -> dict[str, Any]:
    existing = Path(config.runs_dir)
    while not existing.exists():
        existing = existing.parent
    return {
        "visible_gpus": count_gpus(),
        "gpu_mem_gb": _gpu_memory_gb(),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "packages": frozenset(name for name in _OPTIONAL_PACKAGES if _is_installed(name)),
        "compiler_obstacle": compiler_obstacle(),
        "unbuildable": {op: reason for op in OPS if (reason := why_not_buildable(op))},
        "python": sys.executable,
        "runs_place": existing,
        "disk_free_gb": shutil.disk_usage(existing).free / 1e9,
    }


def _chat_template(config: RunConfig) -> str | None:
    template = Path(config.model.chat_template) if config.model.chat_template else None
    return template.read_text() if template and template.is_file() else None


def count_gpus() -> int:
    """Return the number of GPUs visible to a process started here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L"))


def _gpu_memory_gb() -> float | None:
    lines = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    mebibytes = [int(line) for line in lines if line.strip().isdigit()]
    return min(mebibytes) * 2**20 / 1e9 if mebibytes else None


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver, or None without one."""
    lines = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return lines[0].strip() if lines else None


def _nvidia_smi(*arguments: str) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()

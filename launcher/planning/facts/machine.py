"""What is true of this machine and of the files that a config names: read once, then planned with."""

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
    """Inputs of the plan that do not stand in the config."""

    visible_gpus: int
    gpu_mem_gb: float | None
    """Memory of the smallest GPU here; None without one, or where nvidia-smi does not tell."""
    memory_gb: float
    packages: frozenset[str]
    """Which of the distributions that only some kernels need are installed here."""
    compiler_obstacle: str | None
    """Why code for CPUs cannot be compiled here; None where it can."""
    unbuildable: Mapping[str, str]
    """By op of DeepSpeed's: what keeps it from being compiled here, where something does."""
    python: str
    """The Python that submits, and that nodes run unless slurm.environment says otherwise."""
    earlier_starts: int
    """How often a job of this run was started before."""
    parent: Path
    """Where the run directory is made: the runs directory, or that of a sweep."""
    runs_place: Path
    """The nearest existing ancestor of the runs directory, or that itself."""
    disk_free_gb: float
    model: ModelFiles | None
    data: dict[DataRole, DataFile]
    fold: FoldPlan | None
    """None without a cross-validation, or when its folds cannot be drawn."""
    labels: list[str]
    chat_template: str | None
    """The text that model.chat_template names."""


class Observer:
    """Looks at the machine, the models and every data row: at each once, however many configs name it."""

    def __init__(self) -> None:
        """Nothing is looked at yet."""
        self._seen: dict[Any, Any] = {}

    def gather(self, config: RunConfig, parent: Path | None = None) -> tuple[Facts, list[Problem]]:
        """What a plan of this config needs to know; what is wrong comes back as problems.

        Args:
            config: What is asked for.
            parent: Where the run directory will be made, if not in config.runs_dir.
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
    """GPUs that a process started here would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L"))


def _gpu_memory_gb() -> float | None:
    lines = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    mebibytes = [int(line) for line in lines if line.strip().isdigit()]
    return min(mebibytes) * 2**20 / 1e9 if mebibytes else None


def driver_version() -> str | None:
    """Of the NVIDIA driver; None without one."""
    lines = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return lines[0].strip() if lines else None


def _nvidia_smi(*arguments: str) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()

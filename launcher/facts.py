"""What is true of this machine and of the files that a config names: read once, then planned with."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.config import RunConfig
from launcher.data_facts import look_at_data
from launcher.errors import Problem
from launcher.fold_facts import look_at_folds
from launcher.jobs import intents
from launcher.model_facts import look_at_model
from train.job import DataFile, FoldPlan
from train.rundir import RunDir
from train.sources import ModelFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Inputs of the plan that do not stand in the config."""

    visible_gpus: int
    gpu_mem_gb: float | None
    """Memory of the smallest GPU here; None without one, or where nvidia-smi does not tell."""
    memory_gb: float
    python: str
    """The Python that submits, and that nodes run unless slurm.environment says otherwise."""
    earlier_starts: int
    """How often a job of this run was started before."""
    runs_place: Path
    """The nearest existing ancestor of the runs directory, or that itself."""
    disk_free_gb: float
    model: ModelFiles | None
    data: dict[str, DataFile]
    fold: FoldPlan | None
    """None without a cross-validation, or when its folds cannot be drawn."""
    labels: list[str]
    chat_template: str | None
    """The text that model.chat_template names."""


def gather(config: RunConfig) -> tuple[Facts, list[Problem]]:
    """Look at the machine, the model and every data row; what is wrong comes back as problems."""
    model, problems = look_at_model(config)
    data, labels, data_problems = look_at_data(config)
    in_doubt = {"train"} if any(problem.field == "data.train" for problem in data_problems) else set()
    folds, fold_problems = look_at_folds(config, {role: data[role] for role in data.keys() - in_doubt})
    template = Path(config.model.chat_template) if config.model.chat_template else None
    existing = Path(config.runs_dir)
    while not existing.exists():
        existing = existing.parent
    facts = Facts(
        visible_gpus=count_gpus(),
        gpu_mem_gb=_gpu_memory_gb(),
        memory_gb=psutil.virtual_memory().total / 1e9,
        python=sys.executable,
        earlier_starts=intents(RunDir(Path(config.runs_dir) / config.run_name)),
        runs_place=existing,
        disk_free_gb=shutil.disk_usage(existing).free / 1e9,
        model=model,
        data={**data, **folds.data},
        fold=folds.plan,
        labels=labels,
        chat_template=template.read_text() if template and template.is_file() else None,
    )
    return facts, problems + data_problems + fold_problems


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

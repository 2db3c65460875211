"""The launcher's decisions, which a rank reads from the run directory. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from train.batch import BatchPlan
from train.config import DataRole, TrainingConfig
from train.config_names import with_current_names
from train.flops import SpeedPlan
from train.kernels.table import KernelChoice
from train.records.base import RecordError
from train.rundir import RunDir


class DataFile(BaseModel):
    """A data file at the time of planning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str
    rows: int
    """Number of rows of the file with this role; with a fold, data.train is divided between two roles."""


class FoldPlan(BaseModel):
    """The part of a cross-validation that a run computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fold: int | None
    """The fold that is held out; None trains on all rows."""
    folds: int
    sha256: str
    """Hash of the folds of all rows, which is equal for all runs of one cross-validation."""


class TrainPlan(BaseModel):
    """The decisions that ranks depend on, made once before submission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    """Name of the run directory."""
    device: Literal["cpu", "cuda"]
    nodes: int
    ranks_per_node: int
    start_method: Literal["fork", "spawn"] = "spawn"
    """How ranks are started; older plans, which do not have it, spawned them."""
    batch: BatchPlan
    data: dict[DataRole, DataFile]
    """Data files by role: train, held_out (the other rows of the same file), validation, test, general."""
    fold: FoldPlan | None
    """The part of a cross-validation; None without one."""
    host_gb_per_rank: float | None
    """Estimated host memory per rank in GB; None if it was not estimated."""
    node_check: str | None
    """A user's program that checks a node (hardware.node_check)."""
    notice_s: int | None
    """Seconds between the stop request and the time limit; None without a scheduler."""
    labels: list[str]
    """Class names in the order of their ids; empty for decoders."""
    chat_template: str | None
    """The text of model.chat_template, frozen; None for the tokenizer's own."""
    kernels: dict[str, KernelChoice]
    """The chosen implementation of each kernel, with the reason."""
    wandb_id: str
    """The id of the W&B run, which all attempts continue."""
    group: str | None = None
    """The sweep of this trial; None outside a sweep."""
    speed: SpeedPlan | None = None
    """Figures for MFU; None if the hardware's peak or the model's shape is unknown."""
    label: str | None = None
    """The trial's values of the swept keys, which distinguish it from other trials."""


@dataclass(frozen=True, slots=True)
class TrainJob:
    """The input of a rank: config, plan and DeepSpeed configuration."""

    run_dir: RunDir
    config: TrainingConfig
    plan: TrainPlan
    deepspeed: dict[str, Any]


def read_training_plan(run_dir: RunDir) -> TrainPlan:
    """Read the ranks' part of plan.json.

    Raises:
        RecordError: The part is missing.
        ValueError: A field is missing, unknown or invalid.
    """
    plan = json.loads(run_dir.plan.read_text())
    if not isinstance(plan, dict) or "training" not in plan:
        raise RecordError(f"{run_dir.plan}: missing field training")
    return TrainPlan.model_validate(plan["training"])


def load_job(root: Path) -> TrainJob:
    """Read config and plan of a run directory; compute nodes never compose a config."""
    run_dir = RunDir(root)
    written = with_current_names(yaml.safe_load(run_dir.config.read_text()))
    sections = {key: written[key] for key in TrainingConfig.model_fields}
    return TrainJob(
        run_dir=run_dir,
        config=TrainingConfig.model_validate(sections),
        plan=read_training_plan(run_dir),
        deepspeed=json.loads(run_dir.deepspeed.read_text()),
    )

"""What the launcher decided and a rank reads back from the run directory. Torch-free."""

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
    """A data file as it was when the run was planned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str
    rows: int
    """Of those in the file, the ones that serve this role: a fold leaves some of data.train to another."""


class FoldPlan(BaseModel):
    """Which part of a cross-validation a run is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fold: int | None
    """The part that is held out; None trains on all rows."""
    folds: int
    sha256: str
    """Of the fold of every row: equal for all runs of one cross-validation, whatever machine drew them."""


class TrainPlan(BaseModel):
    """The decisions that ranks depend on, made once, before the run was submitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    """Name of the run directory."""
    device: Literal["cpu", "cuda"]
    nodes: int
    ranks_per_node: int
    batch: BatchPlan
    data: dict[DataRole, DataFile]
    """By role: train, held_out (the other rows of the same file), validation, test, general."""
    fold: FoldPlan | None
    """None without a cross-validation."""
    host_gb_per_rank: float | None
    """Host memory that a rank will need, in GB; None where it was not estimated."""
    node_check: str | None
    """A program of the user's that tells whether a node is fit."""
    notice_s: int | None
    """How long before its time limit the run is asked to stop; None without a scheduler."""
    labels: list[str]
    """Class names in the order of their ids; empty for decoders."""
    chat_template: str | None
    """The text of model.chat_template, frozen; None for the tokenizer's own."""
    kernels: dict[str, KernelChoice]
    """By kernel: which one engages, and why."""
    wandb_id: str
    """Fixed here, so that every attempt continues one W&B run."""
    group: str | None = None
    """The sweep that it is a trial of."""
    speed: SpeedPlan | None = None
    """None where the hardware's peak or the model's shape is unknown."""
    label: str | None = None
    """What tells it from the other trials: its values of the swept keys."""


@dataclass(frozen=True, slots=True)
class TrainJob:
    """All that a rank is told."""

    run_dir: RunDir
    config: TrainingConfig
    plan: TrainPlan
    deepspeed: dict[str, Any]

    @property
    def start_method(self) -> Literal["fork", "spawn"]:
        """How ranks are started, with `auto` decided by the device."""
        asked = self.config.train.start_method
        if asked != "auto":
            return asked
        return "spawn" if self.plan.device == "cuda" else "fork"


def read_training_plan(run_dir: RunDir) -> TrainPlan:
    """What plan.json holds for the ranks.

    Raises:
        RecordError: it holds nothing for them.
        ValueError: a field is missing, unknown or invalid.
    """
    plan = json.loads(run_dir.plan.read_text())
    if not isinstance(plan, dict) or "training" not in plan:
        raise RecordError(f"{run_dir.plan}: missing field training")
    return TrainPlan.model_validate(plan["training"])


def load_job(root: Path) -> TrainJob:
    """Read a frozen run back; compute nodes never compose a config."""
    run_dir = RunDir(root)
    written = with_current_names(yaml.safe_load(run_dir.config.read_text()))
    sections = {key: written[key] for key in TrainingConfig.model_fields}
    return TrainJob(
        run_dir=run_dir,
        config=TrainingConfig.model_validate(sections),
        plan=read_training_plan(run_dir),
        deepspeed=json.loads(run_dir.deepspeed.read_text()),
    )

"""The root of a config: the training sections plus where the run lives and on what it is placed."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from slurm.config import HardwareConfig, SlurmConfig
from train.config import FilePath, Section, TrainingConfig

Access = Literal["private", "group"]


class RunConfig(TrainingConfig):
    """Everything that one submission says."""

    runs_dir: FilePath
    """Root of all runs; $SHARDLINE_RUNS sets the default."""
    access: Access = "private"
    """Who may read and change run directories: only you (0700, 0600), or your group too (2770, 0660)."""
    hardware: HardwareConfig
    slurm: SlurmConfig

    @property
    def trained(self) -> dict[str, Any]:
        """What is trained: the training sections without tracking, not where or when."""
        sections = TrainingConfig.model_fields.keys() - {"tracking"}
        values: dict[str, Any] = self.model_dump(
            mode="json", include=sections, exclude={"train": {"hang_timeout_s"}}
        )
        return values

    @property
    def identity(self) -> str:
        """Hash of what is trained."""
        return hashlib.sha256(json.dumps(self.trained).encode()).hexdigest()

    def wandb_id(self, parent: Path) -> str:
        """One W&B run per trial and place: stable over attempts, different for two folders of runs."""
        return hashlib.sha256(f"{self.identity}:{parent}".encode()).hexdigest()[:16]

    @property
    def run_name(self) -> str:
        """Name of the run directory."""
        return f"{self.name}-{self.identity[:8]}"


class HalvingConfig(Section):
    """Successive halving: settings that fall behind are stopped, and can be continued later."""

    rungs: Annotated[list[PositiveInt], Field(min_length=1)]
    """Steps, rising, at which the settings are compared; all of them get to the first one."""
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 1 / 3
    """Share of the settings that goes on from each rung, rounded up."""


class SweepConfig(Section):
    """How `submit -m` makes trials. Axes on the command line replace those of the same key here."""

    axes: dict[str, str | int | float | bool | list[Any]] = Field(default_factory=dict)
    """Keys and groups, each with its values: a list, or text in Hydra's grammar (`1e-4,3e-4`,
    `range(0,3)`)."""
    sampler: Literal["grid", "random", "sobol"] = "grid"
    """`grid` takes every combination; the others draw `n` of them, also from `interval(a,b)` and
    `tag(log, interval(a,b))`."""
    n: PositiveInt | None = None
    """Settings to draw; the first ones stay the same when it grows."""
    seed: NonNegativeInt = 0
    """Of the drawing."""
    zip: list[Annotated[list[str], Field(min_length=2)]] = Field(default_factory=list)
    """Keys whose values go in pairs rather than being crossed: [[optim.lr,train.global_batch_size]]."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Combinations that are left out: [{optim.lr: 1e-3, zero.stage: 0}]."""
    refit: bool = False
    """With cv.folds: one more trial of each setting, on all rows."""
    parallel: PositiveInt | None = None
    """Trials at once; null: as many as Slurm will, or one on this machine."""
    halving: HalvingConfig | None = None
    """Stop what cannot win."""


class Submission(RunConfig):
    """Everything that the command line can name."""

    sweep: SweepConfig

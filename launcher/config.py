"""The root of a config, with the training sections, the folder of runs, hardware and Slurm."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from slurm.config import HardwareConfig, SlurmConfig
from train.config import FilePath, Section, TrainingConfig
from train.config_names import with_former_names

Access = Literal["private", "group"]


class RunConfig(TrainingConfig):
    """The config of one run."""

    runs_dir: FilePath
    """Folder that contains all run directories."""
    access: Access = "private"
    """Who may read and change the run directory: `private` is only the owner (modes 0700 and 0600), `group`
    also the owner's group (2770 and 0660)."""
    hardware: HardwareConfig
    slurm: SlurmConfig

    @property
    def trained(self) -> dict[str, Any]:
        """The values that affect the trained model: the training sections without tracking and timeouts.

        Directories are named by a hash of them, so renamed keys have their original names here.
        """
        sections = TrainingConfig.model_fields.keys() - {"tracking"}
        values = self.model_dump(
            mode="json", include=sections, exclude={"train": {"hang_timeout_s", "start_method"}}
        )
        if values["eval"]["max_rows"] is None:
            # Added after runs had been named: without it they keep their names.
            del values["eval"]["max_rows"]
        return with_former_names(values)

    @property
    def identity(self) -> str:
        """Hash of the values that affect the trained model."""
        return hashlib.sha256(json.dumps(self.trained).encode()).hexdigest()

    def wandb_id(self, parent: Path) -> str:
        """Return the id of the W&B run: the same for all attempts, different in different parent folders."""
        return hashlib.sha256(f"{self.identity}:{parent}".encode()).hexdigest()[:16]

    @property
    def run_name(self) -> str:
        """Name of the run directory."""
        return f"{self.name}-{self.identity[:8]}"


class HalvingConfig(Section):
    """Successive halving: the worst settings are stopped at each rung, and can be resumed later."""

    rungs: Annotated[list[PositiveInt], Field(min_length=1)]
    """Increasing numbers of steps at which the settings are compared. All settings reach the first one."""
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 1 / 3
    """Share of the settings that continues after each rung, rounded up."""


class SweepConfig(Section):
    """How `submit -m` generates trials. Axes on the command line replace those of the same key here."""

    axes: dict[str, str | int | float | bool | list[Any]] = Field(default_factory=dict)
    """Keys and groups to vary, each with its values: a list, or text in Hydra's sweep syntax (`1e-4,3e-4`,
    `range(0,3)`)."""
    sampler: Literal["grid", "random", "sobol"] = "grid"
    """`grid` runs every combination. `random` and `sobol` sample `n` settings, also from `interval(a,b)` and
    `tag(log, interval(a,b))`."""
    n: PositiveInt | None = None
    """Number of settings to sample. A larger number adds settings and keeps the earlier ones."""
    seed: NonNegativeInt = 0
    """Seed of the sampler."""
    zip: list[Annotated[list[str], Field(min_length=2)]] = Field(default_factory=list)
    """Keys whose values are combined in pairs, not in all combinations:
    [[optim.lr,train.global_batch_size]]."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Combinations to leave out: [{optim.lr: 1e-3, zero.stage: 0}]."""
    refit: bool = False
    """Add one trial of each setting that trains on all rows, for `cv.folds`."""
    parallel: PositiveInt | None = None
    """Maximum number of trials that run at the same time. `null`: no limit under Slurm, one on this
    machine."""
    halving: HalvingConfig | None = None
    """Successive halving. `null` trains all settings to the end."""


class CommandConfig(RunConfig):
    """All keys that the command line accepts: those of a run and those of a sweep."""

    sweep: SweepConfig

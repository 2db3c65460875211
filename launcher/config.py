"""The root of a config: the training sections plus where the run lives and on what it is placed."""

import hashlib
from typing import Literal

from slurm.config import HardwareConfig, SlurmConfig
from train.config import FilePath, TrainingConfig

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
    def identity(self) -> str:
        """Hash of what is trained: the training sections without tracking, not where or when."""
        trial = TrainingConfig.model_fields.keys() - {"tracking"}
        exclude = {"train": {"hang_timeout_s"}}
        text = self.model_dump_json(include=trial, exclude=exclude)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """Name of the run directory."""
        return f"{self.name}-{self.identity[:8]}"

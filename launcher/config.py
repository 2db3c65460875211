"""The root of a config: the training sections plus where the run lives and on what it is placed."""

import hashlib

from slurm.config import HardwareConfig, SlurmConfig
from train.config import FilePath, TrainingConfig


class RunConfig(TrainingConfig):
    """Everything that one submission says."""

    runs_dir: FilePath
    """Root of all runs; $SHARDLINE_RUNS sets the default."""
    hardware: HardwareConfig
    slurm: SlurmConfig

    @property
    def identity(self) -> str:
        """Hash of what is trained: the training sections without tracking, not where or when."""
        trial = TrainingConfig.model_fields.keys() - {"tracking"}
        return hashlib.sha256(self.model_dump_json(include=trial).encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """Name of the run directory."""
        return f"{self.name}-{self.identity[:8]}"

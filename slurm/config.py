"""The sections of a config that say on what a run is placed. Standard library and pydantic only."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class Section(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, values never change later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, validate_default=True
    )


class HardwareConfig(Section):
    """The machines: what one node holds. A new machine is a YAML file, no code."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` becomes the visible GPUs, or else the CPU, when the run is planned; the plan records it."""
    nodes: PositiveInt = 1
    gpus_per_node: PositiveInt | None = None
    """Ranks per node: one per GPU, or CPU ranks. null: the visible GPUs, or else two CPU ranks."""
    gpu_mem_gb: PositiveFloat | None = None
    """Memory of one GPU, in GB (10^9 bytes); the plan refuses what cannot fit."""
    node_mem_gb: PositiveFloat | None = None
    """Host memory of one node, in GB, for CPU ranks and offload; null takes this machine's on the CPU."""
    peak_tflops_bf16: PositiveFloat | None = None
    """Dense bf16 peak of one GPU, for the time estimate."""


class SlurmConfig(Section):
    """Where the job goes and what it may use."""

    executor: Literal["local", "slurm"] = "local"
    """`local` runs on this machine through Submitit's local executor. `slurm`: not in this version."""
    partition: str | None = None
    time_min: Annotated[int, Field(ge=1, le=60 * 24 * 30)] = 24 * 60
    """Time limit in minutes. The run is asked to save and stop before it."""
    signal_delay_s: Annotated[int, Field(ge=5)] = 120
    """How long before the time limit the run is asked to save and stop."""

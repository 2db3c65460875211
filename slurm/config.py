"""The sections of a config that say on what a run is placed. Standard library and pydantic only."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from slurm.values import (
    Comment,
    Dependency,
    Extra,
    Features,
    Licenses,
    Mail,
    MailEvent,
    Module,
    Name,
    Names,
    NodeList,
    SetupLine,
    SharedPath,
    Variables,
)


class Section(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, values never change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class HardwareConfig(Section):
    """The machines: what one node holds. A new machine is a YAML file, no code."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` becomes the visible GPUs, or else the CPU, when the run is planned; the plan records it.
    Under Slurm it has to be said: a login node's GPUs tell nothing of the nodes."""
    nodes: PositiveInt = 1
    gpus_per_node: PositiveInt | None = None
    """Ranks per node: one per GPU, or CPU ranks. null: the visible GPUs, or else two CPU ranks."""
    gpu_mem_gb: PositiveFloat | None = None
    """Memory of one GPU, in GB (10^9 bytes); the plan refuses what cannot fit."""
    node_mem_gb: PositiveFloat | None = None
    """Host memory of one node, in GB, for CPU ranks and offload; null takes this machine's on the CPU."""
    peak_tflops_bf16: PositiveFloat | None = None
    """Dense bf16 peak of one GPU, for the time estimate."""
    node_check: SharedPath | None = None
    """A program of yours that every node runs before its ranks start; an exit code other than 0 says that the
    node is unfit: the job is requeued without it."""


class EnvironmentConfig(Section):
    """What Python the nodes run, and inside what."""

    kind: Literal["venv", "conda", "pyxis", "apptainer"] = "venv"
    """`venv` and `conda`: an environment on a shared file system. `pyxis`: srun's --container-image.
    `apptainer`: `apptainer exec` around the task. Containers hold Shardline's dependencies."""
    path: SharedPath | None = None
    """Folder of the environment, or the container's image; null is the Python that submits (venv only)."""
    mounts: list[SharedPath] = []
    """Containers only: folders to mount besides the run directory, `HOST` or `HOST:CONTAINER`."""


class SlurmConfig(Section):
    """Where the job goes and what it may use."""

    executor: Literal["local", "slurm"] = "local"
    """`local` runs on this machine through Submitit's local executor; `slurm` submits to the queue."""
    partition: Names | None = None
    account: Name | None = None
    qos: Name | None = None
    constraint: Features | None = None
    """Features that nodes must have, in Slurm's own grammar."""
    reservation: Names | None = None
    nodelist: NodeList | None = None
    """Nodes that the job must get."""
    exclude: NodeList | None = None
    """Nodes that the job must not get."""
    gpus_per_node: NonNegativeInt | None = None
    """GPUs to ask for on each node; null: one per rank where ranks are on GPUs, else none."""
    gpu_type: Name | None = None
    """As the site calls it in gres: a100, h100, ..."""
    cpus_per_gpu: PositiveInt | None = None
    """CPUs for each rank (one per GPU, or CPU rank); null: the site's default."""
    mem_per_gpu_gb: PositiveInt | None = None
    """Host memory in GiB for each rank; null: the site's default."""
    exclusive: bool = False
    """No other job on the nodes."""
    time_min: Annotated[int, Field(ge=1, le=60 * 24 * 30)] = 24 * 60
    """Time limit in minutes. The run is asked to save and stop before it."""
    signal_delay_s: Annotated[int, Field(ge=5, le=65535)] = 120
    """How long before the time limit the run is asked to save and stop. Slurm may ask up to 60 s earlier."""
    requeue: bool = True
    """Go back into the queue after a time limit, a preemption or a lost node, and go on there."""
    nice: Annotated[int, Field(ge=-2147483645, le=2147483645)] | None = None
    """A lower priority by so much; negative values need rights."""
    dependency: Dependency | None = None
    licenses: Licenses | None = None
    comment: Comment | None = None
    mail_user: Mail | None = None
    mail_type: list[MailEvent] = []
    modules: list[Module] = []
    """Environment modules to load on the nodes, in order."""
    variables: Variables = {}
    """Environment variables to set, such as NCCL_SOCKET_IFNAME."""
    setup: list[SetupLine] = []
    """Shell commands of yours that the batch script runs before the ranks start, one per line."""
    environment: EnvironmentConfig = EnvironmentConfig()
    extra: Extra = {}
    """sbatch's other long options, by name and without dashes: {switches: "1", contiguous: true}."""

"""The sections of a config that define where a run is placed, with their types and defaults.

Uses the standard library and pydantic only. `docs/config.md` is generated from the fields and their
docstrings (`make docs`).
"""

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
    """A group of settings: unknown keys and wrong types are errors, and values cannot be changed.

    `train/config.py` has a class of the same name with the same rules, because slurm and train do not import
    each other. A test compares the two.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
    )


class HardwareConfig(Section):
    """The machines: number of nodes and what one node contains."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` selects the visible GPUs, or the CPU if there are none, when the run is planned; the plan
    records the choice. With `slurm.executor=slurm` the device has to be set, because the login node's GPUs
    can differ from those of the compute nodes."""
    nodes: PositiveInt = 1
    """Number of nodes."""
    gpus_per_node: PositiveInt | None = None
    """Ranks per node: one per GPU, or the number of CPU ranks. `null` uses the visible GPUs, or two CPU
    ranks."""
    gpu_mem_gb: PositiveFloat | None = None
    """Memory of one GPU in GB (10^9 bytes). The plan refuses a run that does not fit."""
    node_mem_gb: PositiveFloat | None = None
    """Host memory of one node in GB, for CPU ranks and offload. `null` uses the memory of this machine for
    CPU ranks."""
    peak_tflops_bf16: PositiveFloat | None = None
    """Peak bf16 throughput of one GPU without sparsity, in TFLOPS, for the time estimate."""
    node_check: SharedPath | None = None
    """A program that every node runs before its ranks start. With an exit code other than 0 the node is
    excluded and the job is requeued."""


class EnvironmentConfig(Section):
    """The Python environment of the compute nodes."""

    kind: Literal["venv", "conda", "pyxis", "apptainer"] = "venv"
    """`venv` and `conda`: an environment on a shared file system. `pyxis`: a container through srun's
    --container-image. `apptainer`: a container through `apptainer exec`. Containers have to provide
    Shardline's dependencies."""
    path: SharedPath | None = None
    """Folder of the environment, or the container image. `null` uses the Python that submits (`venv`
    only)."""
    mounts: list[SharedPath] = []
    """Folders to mount in addition to the run directory, as `HOST` or `HOST:CONTAINER` (containers only)."""


class SlurmConfig(Section):
    """How the job is submitted and which resources it requests."""

    executor: Literal["local", "slurm"] = "local"
    """`local` runs on this machine through Submitit's local executor. `slurm` submits to the queue."""
    partition: Names | None = None
    """Partition, or several separated by commas. `null` uses the site's default."""
    account: Name | None = None
    """Account to charge. `null` uses the site's default."""
    qos: Name | None = None
    """Quality of service. `null` uses the site's default."""
    constraint: Features | None = None
    """Features that the nodes must have, in Slurm's syntax."""
    reservation: Names | None = None
    """Reservation to use."""
    nodelist: NodeList | None = None
    """Nodes that the job must get."""
    exclude: NodeList | None = None
    """Nodes that the job must not get."""
    gpus_per_node: NonNegativeInt | None = None
    """GPUs to request on each node. `null` requests one per rank if the ranks use GPUs, otherwise none."""
    gpu_type: Name | None = None
    """GPU type as the site names it in gres, such as a100 or h100."""
    cpus_per_gpu: PositiveInt | None = None
    """CPUs for each rank, on GPUs or CPUs. `null` uses the site's default."""
    mem_per_gpu_gb: PositiveInt | None = None
    """Host memory for each rank in GiB. `null` uses the site's default."""
    exclusive: bool = False
    """Request nodes without other jobs."""
    time_min: Annotated[int, Field(ge=1, le=60 * 24 * 30)] = 24 * 60
    """Time limit in minutes. The run saves and stops before it is reached."""
    signal_delay_s: Annotated[int, Field(ge=5, le=65535)] = 120
    """Seconds before the time limit at which the run is asked to save and stop. Slurm may send the signal up
    to 60 s earlier."""
    requeue: bool = True
    """Requeue the job and resume the run after a time limit, a preemption or a lost node."""
    nice: Annotated[int, Field(ge=-2147483645, le=2147483645)] | None = None
    """Adjustment that lowers the scheduling priority. Negative values raise it and need privileges."""
    dependency: Dependency | None = None
    """Jobs that this job waits for, in Slurm's syntax."""
    licenses: Licenses | None = None
    """Licenses to request."""
    comment: Comment | None = None
    """Comment on the job."""
    mail_user: Mail | None = None
    """Address for Slurm's notification mails."""
    mail_type: list[MailEvent] = []
    """Events for which Slurm sends a mail."""
    modules: list[Module] = []
    """Environment modules to load on the nodes, in order."""
    variables: Variables = {}
    """Environment variables to set, such as NCCL_SOCKET_IFNAME."""
    setup: list[SetupLine] = []
    """Shell commands that the batch script runs before the ranks start, one per entry."""
    environment: EnvironmentConfig = EnvironmentConfig()
    extra: Extra = {}
    """Other long options of sbatch, by name without dashes: {switches: "1", contiguous: true}."""

"""Make a frozen plan from a config and facts. Pure functions without input, output or side effects."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launcher.config import RunConfig
from launcher.planning.estimate.duration import estimate_seconds, model_work
from launcher.planning.estimate.memory import MemoryEstimate, checkpoint_bytes, disk_bytes, estimate_memory
from launcher.planning.estimate.shape import ModelShape, model_shape
from launcher.planning.facts.machine import Facts
from launcher.records.jobs import next_name
from slurm.config import SlurmConfig
from slurm.script import JobSpec, batch_script
from train.batch import BatchPlan, solve_batch
from train.flops import SpeedPlan
from train.job import TrainPlan
from train.kernels.table import KernelChoice, Site, choose
from train.zero import deepspeed_config

CPU_RANKS = 2
"""Number of ranks on a machine without a GPU, if the config does not set one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the ranks run, with `auto` resolved."""

    device: Literal["cpu", "cuda"]
    nodes: int
    ranks_per_node: int

    @property
    def world_size(self) -> int:
        """Number of ranks on all nodes."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """Length of the run, as far as it is known from the config."""

    total_steps: int | None
    """None if only train.max_tokens limits the run, or train.epochs over sequences that are not counted until
    the data is tokenised: packs, and rows that are split or dropped when they are too long."""
    epochs: float | None
    """None if the number of sequences in an epoch is not known yet."""
    seconds: float | None
    """None if the peak performance of the hardware is unknown."""
    time_limit_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """Largest size of the run directory and of one checkpoint."""

    checkpoint_gb: float
    total_gb: float
    free_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """All decisions made before a run is created."""

    run: str
    identity: str
    placement: Placement
    training: TrainPlan
    deepspeed: dict[str, Any]
    shape: ModelShape | None
    memory: MemoryEstimate | None
    memory_limit_gb: float | None
    """Memory available to one rank: its GPU, or its share of the host."""
    time: TimePlan
    disk: DiskPlan | None
    sbatch: str | None
    """Text of the Slurm script; None with the local executor."""


def place(config: RunConfig, facts: Facts) -> Placement:
    """Resolve `auto` to the visible GPUs, or to CPU ranks if there are none."""
    hardware = config.hardware
    device: Literal["cpu", "cuda"] = (
        ("cuda" if facts.visible_gpus else "cpu") if hardware.device == "auto" else hardware.device
    )
    default = facts.visible_gpus if device == "cuda" else CPU_RANKS
    return Placement(
        device=device, nodes=hardware.nodes, ranks_per_node=hardware.gpus_per_node or default or 1
    )


def start_method(config: RunConfig, placement: Placement) -> Literal["fork", "spawn"]:
    """Resolve `auto`: CPU ranks are forked, GPU ranks are new processes."""
    asked = config.train.start_method
    if asked != "auto":
        return asked
    return "spawn" if placement.device == "cuda" else "fork"


def make_plan(config: RunConfig, facts: Facts) -> RunPlan:
    """Make all decisions of a run.

    Raises:
        ValueError: The global batch cannot be divided among the ranks.
    """
    placement = place(config, facts)
    batch = solve_batch(
        global_batch_size=config.train.global_batch_size,
        micro_batch_size=config.train.micro_batch_size,
        world_size=placement.world_size,
    )
    shape = model_shape(facts.model.config) if facts.model else None
    memory = estimate_memory(config, shape, batch, placement.device) if shape else None
    training = TrainPlan(
        run=config.run_name,
        device=placement.device,
        nodes=placement.nodes,
        ranks_per_node=placement.ranks_per_node,
        start_method=start_method(config, placement),
        batch=batch,
        data=facts.data,
        fold=facts.fold,
        host_gb_per_rank=memory.total_gb if memory and placement.device == "cpu" else None,
        node_check=config.hardware.node_check,
        notice_s=config.slurm.signal_delay_s if config.slurm.executor == "slurm" else None,
        labels=facts.labels,
        chat_template=facts.chat_template,
        kernels=choose_kernels(config, facts)[0],
        wandb_id=config.wandb_id(facts.parent),
        speed=_speed(config, shape),
    )
    return RunPlan(
        run=config.run_name,
        identity=config.identity,
        placement=placement,
        training=training,
        deepspeed=deepspeed_config(config, batch, device=placement.device),
        shape=shape,
        memory=memory,
        memory_limit_gb=_memory_limit(config, facts, placement),
        time=_time(config, facts, shape, placement),
        disk=_disk(config, facts, shape),
        sbatch=_sbatch(config, training, facts),
    )


def choose_kernels(config: RunConfig, facts: Facts) -> tuple[dict[str, KernelChoice], dict[str, str]]:
    """Choose the kernels of a run.

    Returns:
        The choice for each kernel, and for each requested kernel that cannot be used, the reason.
    """
    environment = config.slurm.environment
    site = Site(
        device=place(config, facts).device,
        family=str(facts.model.config.get("model_type", "unknown")) if facts.model else "unknown",
        task=config.model.task,
        precision=config.train.precision,
        packed=config.data.packing,
        compiled=config.model.compile,
        zero_stage=config.zero.stage,
        offload=config.zero.offload_optimizer,
        installed=lambda name: name in facts.packages,
        why_not_buildable=facts.unbuildable.get,
        elsewhere=config.slurm.executor == "slurm"
        and (environment.kind != "venv" or environment.path is not None),
    )
    return choose(config.wanted_kernels, site)


def slurm_script(
    slurm: SlurmConfig,
    training: TrainPlan,
    root: Path,
    *,
    name: str,
    python: str,
    code: Path | None = None,
    array: str | None = None,
    after: str | None = None,
) -> str:
    """Make the script that is passed to sbatch.

    Args:
        slurm: The slurm section of the config.
        training: The training plan, with nodes, ranks and device.
        root: The run directory or sweep directory.
        name: Unique name of the job.
        python: Path of the Python interpreter that submits.
        code: The frozen sources, if they are not in the run directory.
        array: For many trials, their indices and the number that run at the same time.
        after: Id of a job that must end first.
    """
    ranks = training.ranks_per_node
    default_gpus = ranks if training.device == "cuda" else 0
    spec = JobSpec(
        name=name,
        nodes=training.nodes,
        ranks_per_node=ranks,
        gpus_per_node=slurm.gpus_per_node if slurm.gpus_per_node is not None else default_gpus,
        folder=root / "submitit",
        code=code or root / "code",
        python=python,
        tail=("launcher.node.epilog", str(root)),
        array=array,
        after=after,
    )
    return batch_script(slurm, spec)


def _sbatch(config: RunConfig, training: TrainPlan, facts: Facts) -> str | None:
    if config.slurm.executor != "slurm":
        return None
    root = facts.parent / config.run_name
    name = next_name(root.name, str(root), facts.earlier_starts)
    return slurm_script(config.slurm, training, root, name=name, python=facts.python)


def _memory_limit(config: RunConfig, facts: Facts, placement: Placement) -> float | None:
    slurm = config.slurm
    if placement.device == "cuda":
        return config.hardware.gpu_mem_gb or (facts.gpu_mem_gb if slurm.executor == "local" else None)
    if slurm.executor == "slurm":
        node_gb = config.hardware.node_mem_gb
        return (
            slurm.mem_per_gpu_gb * 2**30 / 1e9
            if slurm.mem_per_gpu_gb
            else node_gb and node_gb / placement.ranks_per_node
        )
    return (config.hardware.node_mem_gb or facts.memory_gb) / placement.ranks_per_node


def _speed(config: RunConfig, shape: ModelShape | None) -> SpeedPlan | None:
    peak_tflops = config.hardware.peak_tflops_bf16
    if peak_tflops is None or shape is None:
        return None
    return SpeedPlan(peak_tflops=peak_tflops, work=model_work(shape))


def _time(config: RunConfig, facts: Facts, shape: ModelShape | None, placement: Placement) -> TimePlan:
    train, data = config.train, config.data
    counted = "train" in facts.data and not data.packing and data.overlong == "truncate"
    sequences = facts.data["train"].rows if counted else 0
    limits = []
    if train.max_steps is not None:
        limits.append(train.max_steps)
    if train.epochs is not None and sequences:
        limits.append(-(-max(1, round(train.epochs * sequences)) // train.global_batch_size))
    steps = min(limits) if limits else None
    length = data.max_length
    seconds = (
        estimate_seconds(
            shape,
            tokens=steps * train.global_batch_size * length,
            sequence=length,
            gpus=placement.world_size,
            peak_tflops=config.hardware.peak_tflops_bf16,
            # `selective` recomputes no matrix products.
            recompute=config.model.activation_checkpointing == "full",
        )
        if steps and shape and placement.device == "cuda"
        else None
    )
    return TimePlan(
        total_steps=steps,
        epochs=steps * train.global_batch_size / sequences if steps and sequences else None,
        seconds=seconds,
        time_limit_s=config.slurm.time_min * 60,
    )


def _disk(config: RunConfig, facts: Facts, shape: ModelShape | None) -> DiskPlan | None:
    if shape is None:
        return None
    return DiskPlan(
        checkpoint_gb=checkpoint_bytes(config, shape) / 1e9,
        total_gb=disk_bytes(config, shape) / 1e9,
        free_gb=facts.disk_free_gb,
    )


def batch_summary(batch: BatchPlan) -> str:
    """Format how the global batch is divided: ranks, micro-batch and accumulation."""
    return (
        f"{batch.global_batch_size} sequences = {batch.world_size} ranks"
        f" x micro-batch {batch.micro_batch_size} x accumulation {batch.accumulation}"
    )

"""How a plan looks to a person, and to a program. Prints; decides nothing."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from launcher.planning.plan import RunPlan, batch_summary
from launcher.words import duration
from train.config import DataRole
from train.job import DataFile, FoldPlan
from train.kernels.table import KernelChoice


def show_plan(console: Console, plan: RunPlan) -> None:
    """What a run will do and need."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    place = plan.placement
    table.add_row("run", plan.run)
    table.add_row(
        "hardware",
        f"{place.nodes} node x {place.ranks_per_node} {'GPU' if place.device == 'cuda' else 'CPU'} ranks,"
        f" ZeRO stage {plan.deepspeed['zero_optimization']['stage']}",
    )
    table.add_row("batch", batch_summary(plan.training.batch))
    table.add_row("length", _length(plan))
    if plan.shape:
        table.add_row("model", f"{plan.shape.parameters / 1e6:,.1f}M parameters, {plan.shape.kind}")
    rows = ", ".join(f"{file.rows} {role.replace('_', ' ')}" for role, file in plan.training.data.items())
    table.add_row("rows", rows)
    if plan.training.fold:
        table.add_row("fold", _fold(plan.training.fold, plan.training.data))
    if plan.shape is None:
        table.add_row("memory", "unknown for this architecture")
    if plan.memory:
        limit = f" of {plan.memory_limit_gb:.1f}" if plan.memory_limit_gb else ""
        table.add_row("memory", f"about {plan.memory.total_gb:.1f}{limit} GB a rank{_parts(plan)}")
    if plan.disk:
        table.add_row(
            "disk",
            f"{plan.disk.checkpoint_gb:.2f} GB a checkpoint, at most {plan.disk.total_gb:.2f} GB"
            f" of {plan.disk.free_gb:.0f} GB free",
        )
    table.add_row("kernels", _kernels(plan.training.kernels))
    table.add_row("time", _time(plan))
    console.print(table)
    if plan.sbatch:
        console.print("\n[bold]sbatch[/]")
        console.print(plan.sbatch, markup=False, highlight=False, soft_wrap=True, end="")
    console.print("\n[bold]DeepSpeed[/]")
    console.print_json(json.dumps(plan.deepspeed))


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """The fields of `plan --json`, which scripts rely on."""
    memory = {**asdict(plan.memory), "total_gb": plan.memory.total_gb} if plan.memory else None
    return {
        "run": plan.run,
        "placement": plan.placement,
        "batch": plan.training.batch,
        "rows": {role: file.rows for role, file in plan.training.data.items()},
        "fold": plan.training.fold,
        "memory": memory,
        "time": plan.time,
        "disk": plan.disk,
        "kernels": plan.training.kernels,
        "sbatch": plan.sbatch,
        "deepspeed": plan.deepspeed,
    }


def _fold(plan: FoldPlan, data: Mapping[DataRole, DataFile]) -> str:
    if plan.fold is None:
        return f"none of {plan.folds} held out: all {data['train'].rows} rows are trained"
    return (
        f"{plan.fold} of {plan.folds}, counted from 0: {data['train'].rows} rows are trained,"
        f" {data['held_out'].rows} held out"
    )


def _kernels(choices: Mapping[str, KernelChoice]) -> str:
    """A line for all kernels that are computed by the same for the same reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for kernel, choice in choices.items():
        alike.setdefault((choice.name, choice.why), []).append(kernel)
    return "\n".join(f"{', '.join(kernels)}: {name} ({why})" for (name, why), kernels in alike.items())


def _length(plan: RunPlan) -> str:
    time = plan.time
    if time.total_steps is None:
        return "the steps are known once the data is tokenised"
    epochs = f" ({time.epochs:.2g} epochs)" if time.epochs else ""
    return f"{time.total_steps} steps{epochs}"


def _time(plan: RunPlan) -> str:
    limit = f"limit {duration(plan.time.time_limit_s)}"
    if plan.time.seconds is None:
        return f"{limit}; no estimate without the hardware's peak"
    return f"about {duration(plan.time.seconds)} of training; {limit}"


def _parts(plan: RunPlan) -> str:
    memory = plan.memory
    if memory is None:
        return ""
    parts = {
        "weights": memory.weights_gb,
        "gradients": memory.gradients_gb,
        "optimizer": memory.optimizer_gb,
        "activations": memory.activations_gb,
        "logits": memory.logits_gb,
        "runtime": memory.runtime_gb,
        "copy for saving": memory.save_copy_gb if memory.device == "cpu" else 0.0,
    }
    text = ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if value >= 0.005)
    offloaded = f"; {memory.offloaded_gb:.2f} on the host" if memory.offloaded_gb else ""
    return f" ({text}{offloaded})"

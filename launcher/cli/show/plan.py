"""How the plan of a run looks to a person, and as JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from launcher.planning.plan import RunPlan, batch_summary
from launcher.words import counted, duration
from train.config import DataRole
from train.job import DataFile, FoldPlan
from train.kernels.table import KernelChoice, title_of


def show_plan(console: Console, plan: RunPlan, verbose: bool) -> None:
    """Print what a run will do and need.

    Args:
        console: Where to print.
        plan: The plan.
        verbose: Whether to print rejected kernels, the sbatch script and DeepSpeed's configuration, too.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for topic, text in _rows(plan):
        table.add_row(topic, text)
    kernels = _kernels_with_reasons if verbose else _kernels
    table.add_row("kernels", kernels(plan.training.kernels))
    console.print(table)
    if verbose:
        _show_files(console, plan)
    else:
        hidden = "DeepSpeed's configuration" + (", the sbatch script" if plan.sbatch else "")
        console.print(f"\nfor {hidden} and rejected kernels, add -v", style="dim")


def _rows(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """Topics and what the plan says about each, without the kernels."""
    place, training = plan.placement, plan.training
    kind = "GPU" if place.device == "cuda" else "CPU"
    zero = plan.deepspeed["zero_optimization"]["stage"]
    yield "run", plan.run
    yield (
        "hardware",
        f"{counted(place.nodes, 'node')} x {counted(place.ranks_per_node, f'{kind} rank')},"
        f" ZeRO stage {zero}",
    )
    yield "batch", batch_summary(training.batch)
    yield "length", _length(plan)
    if plan.shape:
        yield "model", f"{plan.shape.parameters / 1e6:,.1f}M parameters, {plan.shape.kind}"
    yield (
        "rows",
        ", ".join(f"{file.rows} {role.replace('_', ' ')}" for role, file in training.data.items()),
    )
    if training.fold:
        yield "fold", _fold(training.fold, training.data)
    if plan.shape is None:
        yield "memory", "no estimate: unknown architecture"
    if plan.memory:
        limit = f" of {plan.memory_limit_gb:.1f}" if plan.memory_limit_gb else ""
        yield "memory", f"about {plan.memory.total_gb:.1f}{limit} GB per rank{_parts(plan)}"
    if plan.disk:
        disk = plan.disk
        yield (
            "disk",
            f"{disk.checkpoint_gb:.2f} GB per checkpoint, at most {disk.total_gb:.2f} GB in total,"
            f" {disk.free_gb:.0f} GB free",
        )
    yield "time", _time(plan)


def _show_files(console: Console, plan: RunPlan) -> None:
    """Print the sbatch script and DeepSpeed's configuration."""
    if plan.sbatch:
        console.print("\n[bold]sbatch[/]")
        console.print(plan.sbatch, markup=False, highlight=False, soft_wrap=True, end="")
    console.print("\n[bold]DeepSpeed[/]")
    console.print_json(json.dumps(plan.deepspeed))


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """The fields of `plan --json`, which are stable for scripts."""
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
    """The fold in words."""
    if plan.fold is None:
        return f"none of {plan.folds} held out: training on all {data['train'].rows} rows"
    return (
        f"{plan.fold} of {plan.folds}, counted from 0: training on {data['train'].rows} rows,"
        f" {data['held_out'].rows} held out"
    )


def _kernels(choices: Mapping[str, KernelChoice]) -> str:
    """One line for each implementation, with the kernels that use it."""
    alike: dict[str, list[str]] = {}
    for kernel, choice in choices.items():
        alike.setdefault(title_of(kernel, choice.name), []).append(kernel)
    return "\n".join(f"{', '.join(kernels)}: {title}" for title, kernels in alike.items())


def _kernels_with_reasons(choices: Mapping[str, KernelChoice]) -> str:
    """One line for all kernels with the same implementation and the same reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for kernel, choice in choices.items():
        alike.setdefault((title_of(kernel, choice.name), choice.why), []).append(kernel)
    return "\n".join(f"{', '.join(kernels)}: {title} ({why})" for (title, why), kernels in alike.items())


def _length(plan: RunPlan) -> str:
    """Steps and epochs."""
    time = plan.time
    if time.total_steps is None:
        return "number of steps: known once the data is tokenised"
    epochs = f" ({time.epochs:.2g} epochs)" if time.epochs else ""
    return f"{counted(time.total_steps, 'step')}{epochs}"


def _time(plan: RunPlan) -> str:
    """The estimated duration and the time limit."""
    limit = f"time limit {duration(plan.time.time_limit_s)}"
    if plan.time.seconds is not None:
        return f"about {duration(plan.time.seconds)} of training; {limit}"
    if plan.placement.device == "cpu":
        reason = "for CPU ranks"
    elif plan.time.total_steps is None:
        reason = "before the data is tokenised"
    else:
        reason = "without hardware.peak_tflops_bf16" if plan.shape else "for an unknown architecture"
    return f"no estimate {reason}; {limit}"


def _parts(plan: RunPlan) -> str:
    """What the memory of a rank is made of, in parentheses."""
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

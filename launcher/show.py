"""How plans, runs and results look to a person. Prints; decides nothing."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.errors import Problem
from launcher.overview import Overview
from launcher.plan import RunPlan, batch_summary
from launcher.runs import name_to_type
from launcher.status import RunStatus
from train.job import DataFile, FoldPlan
from train.kernels.table import KernelChoice
from train.rundir import RunDir

_SCREEN = 40
_STATE_STYLE = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "PREEMPTED": "yellow",
    "FAILED": "red",
    "CANCELLED": "magenta",
}


def show_problems(console: Console, problems: Sequence[Problem], *, before_a_run: bool) -> None:
    """All problems, each with its fix."""
    noun = "problem" if len(problems) == 1 else "problems"
    tail = ", nothing was created" if before_a_run else ""
    console.print(f"{len(problems)} {noun}{tail}:", style="bold red")
    for problem in problems:
        console.print(
            f"  [bold]{escape(problem.field)}[/]: {escape(problem.message)}", soft_wrap=True, highlight=False
        )
        console.print(
            f"    -> {escape(problem.fix)}  [dim]({problem.code})[/]", soft_wrap=True, highlight=False
        )


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


def _fold(plan: FoldPlan, data: Mapping[str, DataFile]) -> str:
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


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


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


def show_overview(console: Console, overview: Overview, *, everything: bool) -> None:
    """Runs and sweeps: what is named with every attempt or trial, else the newest and what is alive."""
    named = overview.named
    if not overview.statuses:
        console.print("no runs yet; try: shardline submit experiment=smoke --follow")
        return
    shown: Sequence[RunStatus] = overview.runs
    hidden: Sequence[RunStatus] = []
    if not named and not everything:
        shown, hidden = newest_and_alive(overview.runs)
    if shown:
        _show_status(console, shown, {}, details=named)
    if hidden:
        console.print(
            f"\nand {len(hidden)} more: {count_states(hidden)}; shardline status --all", highlight=False
        )
    for sweep, trials in overview.sweeps.items():
        console.print(f"\n[bold]{sweep}[/]  {count_states(trials)}", highlight=False)
        if named:
            kept, rest = (list(trials), []) if everything else newest_and_alive(trials)
            _show_status(console, kept, overview.labels, details=False)
            if rest:
                console.print(f"and {len(rest)} more: {count_states(rest)}; add --all", highlight=False)


def newest_and_alive(statuses: Sequence[RunStatus]) -> tuple[list[RunStatus], list[RunStatus]]:
    """What a screen holds, and the rest: finished runs beyond the first are left out."""
    shown: list[RunStatus] = []
    rest: list[RunStatus] = []
    for number, status in enumerate(statuses):
        quiet = status.state in ("COMPLETED", "PENDING")
        (rest if quiet and number >= _SCREEN else shown).append(status)
    return shown, rest


def count_states(statuses: Sequence[RunStatus]) -> str:
    """How many are in which state."""
    counts = Counter(status.state for status in statuses)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _show_status(
    console: Console, statuses: Sequence[RunStatus], labels: Mapping[str, str], *, details: bool
) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    trials = any(status.run in labels for status in statuses)
    setting = ["SETTING"] if trials else []
    for name in ("RUN", *setting, "STATE", "STEP", "LEFT", "ATTEMPT", "JOB", "NODES", "WHY"):
        table.add_column(name, overflow="fold" if name in ("RUN", "SETTING", "WHY") else "ellipsis")
    for status in statuses:
        restarts = f" (+{status.restarts} in place)" if status.restarts else ""
        table.add_row(
            escape(status.run),
            *([escape(labels[status.run])] if trials else []),
            f"[{_STATE_STYLE[status.state]}]{status.state}[/]",
            f"{status.step}/{status.total_steps or '?'}",
            duration(status.eta_s) if status.eta_s is not None else "-",
            f"{status.attempt}{restarts}",
            status.job_id or "-",
            status.nodes or "-",
            escape(status.why),
        )
    console.print(table)
    if details:
        for status in statuses:
            _show_attempts(console, status)


def _show_attempts(console: Console, status: RunStatus) -> None:
    if not status.attempts:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title=escape(status.run), title_justify="left")
    for name in ("ATTEMPT", "STARTED", "FIRST STEP", "JOB", "NODES", "ENDED"):
        table.add_column(name, overflow="fold")
    for attempt in status.attempts:
        last = attempt is status.attempts[-1] and status.state in ("RUNNING", "PENDING")
        table.add_row(
            str(attempt.number),
            datetime.fromtimestamp(attempt.started).strftime("%Y-%m-%d %H:%M:%S"),
            _start(attempt.start),
            attempt.job_id or "-",
            attempt.nodes or "-",
            escape(attempt.ended or ("" if last else "without a word (killed)")),
        )
    console.print()
    console.print(table)


def _start(seconds: Mapping[str, float] | None) -> str:
    """How long a rank took to its first step, and what took longest."""
    if not seconds:
        return "-"
    longest = max(seconds, key=lambda phase: seconds[phase])
    return f"after {sum(seconds.values()):.1f} s ({longest} {seconds[longest]:.1f})"


def show_next_commands(console: Console, run: RunDir) -> None:
    """Where the run lives and what one does next."""
    name = name_to_type(run)
    console.print(f"\n[bold]Run directory[/]  {run.root}", soft_wrap=True, highlight=False)
    rows = [
        (f"{_as_typed('shardline')} status {name}", "state, step, attempts"),
        (f"{_as_typed('shardline')} logs {name} --rank 0", "what a rank printed"),
        (f"{_as_typed('shardline')} report {name}", "all of it as a page, with curves"),
    ]
    if run.export.is_dir():
        console.print(
            f"[bold]Model[/]          {run.export}  (transformers: from_pretrained)",
            soft_wrap=True,
            highlight=False,
        )
    offline = next(iter(run.root.glob("wandb/offline-run-*")), None)
    if offline:
        rows.append(
            (
                f"{_as_typed('wandb')} sync {run.root}/wandb/offline-run-*",
                "send the metrics to Weights & Biases",
            )
        )
    console.print("[bold]Next[/]")
    for command, meaning in rows:
        console.print(f"  {command}  [dim]# {meaning}[/]", soft_wrap=True, highlight=False)


def _as_typed(command: str) -> str:
    """The command as it works in the user's shell: by name, or by path where no environment is active."""
    if shutil.which(command):
        return command
    path = Path(sys.executable).with_name(command)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

"""What a person can do next with a run."""

import shutil
import sys
from pathlib import Path

from rich.console import Console

from launcher.records.runs import name_to_type
from train.rundir import RunDir


def show_next_commands(console: Console, run: RunDir) -> None:
    """Print the run directory, the exported model, and commands to continue with."""
    name = name_to_type(run)
    console.print(f"\n[bold]Run directory[/]  {run.root}", soft_wrap=True, highlight=False)
    rows = [
        (f"{_as_typed('shardline')} status {name}", "state, step, attempts"),
        (f"{_as_typed('shardline')} logs {name} --rank 0", "output of one rank"),
        (f"{_as_typed('shardline')} report {name}", "a page with all results and curves"),
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
    """The command as the user's shell finds it: by name, or by path if no environment is active."""
    if shutil.which(command):
        return command
    path = Path(sys.executable).with_name(command)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

"""How problems and runs look to a person. Prints; decides nothing."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.errors import Problem
from launcher.records.runs import name_to_type
from launcher.status.overview import Overview
from launcher.status.runs import RunStatus
from launcher.status.state import ALIVE
from launcher.words import duration
from train.journal.phases import Phase
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
        last = attempt is status.attempts[-1] and status.state in ALIVE
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


def _start(seconds: Mapping[Phase, float] | None) -> str:
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

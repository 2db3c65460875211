"""How the status of runs and sweeps looks to a person."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.status.overview import Overview
from launcher.status.runs import RunStatus
from launcher.status.state import ALIVE
from launcher.words import duration
from train.journal.phases import Phase

_SCREEN = 40
"""Rows of a table that are always shown."""
_STATE_STYLE = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "PREEMPTED": "yellow",
    "FAILED": "red",
    "CANCELLED": "magenta",
}


def show_overview(console: Console, overview: Overview, *, everything: bool) -> None:
    """Print runs and sweeps: named ones with every attempt or trial, otherwise the recent and active ones.

    Args:
        console: Where to print.
        overview: The status of all of them.
        everything: Whether finished runs beyond the first screen are listed, too.
    """
    named = overview.named
    if not overview.statuses:
        console.print("no runs yet; to start one: shardline submit experiment=smoke --follow")
        return
    shown: Sequence[RunStatus] = overview.runs
    hidden: Sequence[RunStatus] = []
    if not named and not everything:
        shown, hidden = newest_and_alive(overview.runs)
    if shown:
        _show_status(console, shown, {}, details=named)
    if hidden:
        console.print(
            f"\nand {len(hidden)} more: {count_states(hidden)}; to list all: shardline status --all",
            highlight=False,
        )
    for sweep, trials in overview.sweeps.items():
        console.print(f"\n[bold]{sweep}[/]  {count_states(trials)}", highlight=False)
        if named:
            kept, rest = (list(trials), []) if everything else newest_and_alive(trials)
            _show_status(console, kept, overview.labels, details=False)
            if rest:
                console.print(
                    f"and {len(rest)} more: {count_states(rest)}; to list all, add --all", highlight=False
                )


def newest_and_alive(statuses: Sequence[RunStatus]) -> tuple[list[RunStatus], list[RunStatus]]:
    """Split statuses into those shown and the rest: finished and waiting runs beyond the first screen."""
    shown: list[RunStatus] = []
    rest: list[RunStatus] = []
    for number, status in enumerate(statuses):
        quiet = status.state in ("COMPLETED", "PENDING")
        (rest if quiet and number >= _SCREEN else shown).append(status)
    return shown, rest


def count_states(statuses: Sequence[RunStatus]) -> str:
    """Count the runs in each state, as text."""
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
    """Print a table of a run's attempts."""
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
            escape(attempt.ended or ("" if last else "no reason recorded (killed or node failure)")),
        )
    console.print()
    console.print(table)


def _start(seconds: Mapping[Phase, float] | None) -> str:
    """The time from start to first step, and the phase that took longest."""
    if not seconds:
        return "-"
    longest = max(seconds, key=lambda phase: seconds[phase])
    return f"after {sum(seconds.values()):.1f} s ({longest} {seconds[longest]:.1f})"

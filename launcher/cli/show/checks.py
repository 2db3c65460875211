"""How the outcome of checks looks to a person: checkpoints, a rehearsal, findings of the doctor."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from launcher.doctor.machine import Finding
from launcher.lifecycle.rehearse import Item
from launcher.words import duration
from train.checkpoint.manifest import CheckpointVerdict


def show_checkpoints(console: Console, verdicts: Sequence[CheckpointVerdict], *, verified: bool) -> None:
    """Print a table of checkpoints, newest first."""
    if not verdicts:
        console.print("no checkpoints yet")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("STEP", "SIZE", "RANKS", "ZERO", "AGE", "ATTEMPT", "STATE"):
        table.add_column(name, overflow="fold")
    good = "[green]verified[/]" if verified else "[green]complete[/]"
    for verdict in verdicts:
        manifest = verdict.manifest
        facts = (
            (
                f"{manifest.nbytes / 1e6:,.1f} MB",
                str(manifest.world_size),
                str(manifest.zero_stage),
                duration(time.time() - manifest.time),
                str(manifest.attempt),
            )
            if manifest
            else ("?",) * 5
        )
        step = verdict.path.name.removeprefix("step_")
        table.add_row(step, *facts, good if verdict.usable else f"[red]{escape(verdict.problem or '')}[/]")
    console.print(table)
    if not verified:
        console.print("only sizes were compared; --verify reads every file", style="dim")


def show_drill(console: Console, items: Sequence[Item]) -> None:
    """Print the comparisons of a rehearsal and its verdict."""
    for item in items:
        mark = "[green]equal  [/]" if item.equal else "[bold red]differs[/]"
        console.print(f"{mark} [bold]{item.name}[/]: {escape(item.detail)}", highlight=False)
    good = all(item.equal for item in items)
    verdict = (
        "[green]Interrupted and uninterrupted training are equal.[/]"
        if good
        else "[red]Interrupted training differs: do not start a long job yet.[/]"
    )
    console.print(f"\n{verdict}")


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print each finding on one line."""
    marks = {"good": "[green]good [/]", "note": "[yellow]note [/]", "wrong": "[bold red]wrong[/]"}
    for finding in findings:
        console.print(
            f"{marks[finding.level]} [bold]{escape(finding.topic)}[/]: {escape(finding.text)}", soft_wrap=True
        )

"""Watching a run from its directory: phases, a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from launcher.status.queue import RecentView
from launcher.status.runs import RunStatus, read_status
from launcher.words import about_the_compilation, about_the_data, short_notice
from train.rundir import RunDir, new_lines, parse_lines

_POLL_S = 0.2
_PLAIN_LINE_EVERY_S = 5.0
_THEN = {
    "restart": "starting the ranks again",
    "requeue": "going back into the queue",
    "stop": "stopping",
}
_FINAL = ("COMPLETED", "FAILED", "CANCELLED", "PREEMPTED")


class _Tail:
    """New whole lines of a .jsonl file since the last look."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def rows(self) -> Iterator[dict[str, Any]]:
        lines, self._offset = new_lines(self._path, self._offset)
        return parse_lines(lines)


def watch(run: RunDir, console: Console) -> RunStatus:
    """Show a run until it ends; returns its last status. Ctrl-C leaves the run alone."""
    events = _Tail(run.events, 0)
    metrics = _Tail(run.metrics, run.metrics.stat().st_size if run.metrics.exists() else 0)
    view = _LiveView(console) if console.is_terminal else _PlainView(console)
    since_submit = False
    recent = RecentView()
    with view:
        while True:
            status = read_status(run, recent.look)
            rows = list(events.rows())
            if not since_submit:
                # What earlier attempts did is in the journal, not news.
                start = max((i for i, row in enumerate(rows) if row["event"] == "submitted"), default=0)
                rows, since_submit = rows[start:], True
            for row in rows:
                view.event(row)
            for row in metrics.rows():
                view.step(row, status.total_steps)
            if status.state in _FINAL:
                return status
            time.sleep(_POLL_S)


def repeat(console: Console, show: Callable[[Console], bool], every_s: float, *, clear: bool = True) -> None:
    """Show something again and again while it says that there is more to come."""
    while True:
        if clear and console.is_terminal:
            console.clear()
        if not show(console):
            return
        time.sleep(every_s)


def _event_line(row: dict[str, Any]) -> str | None:
    """A journal entry in words, where people want to see it."""
    kind = row["event"]
    if kind == "validation":
        score = f"validation at step {row['step']}: loss {row['loss']:.3f}"
        if "macro_f1" in row:
            score += f", accuracy {row['accuracy']:.3f}, macro-F1 {row['macro_f1']:.3f}"
        return score + (" (best so far)" if row["best"] else "")
    if kind == "checkpoint":
        return f"checkpoint at step {row['step']}: {row['bytes'] / 1e6:,.1f} MB in {row['seconds']:.1f} s"
    if kind == "crashed":
        return f"{row['reason']}; {_THEN[row['then']]}"
    if kind == "data":
        return about_the_data(row)
    if kind == "compiled":
        return about_the_compilation(row)
    if kind == "short_notice":
        return short_notice(row)
    if kind == "requeued":
        without = f", without {', '.join(row['without'])}" if row["without"] else ""
        return f"back into the queue{without}"
    lines = {
        "resumed": "resumed after step {step}",
        "ended_early": "ended early at step {step}: {reason}",
        "preempted": "stopped by {reason} after step {step}",
        "tracking": "{why}",
        "skipped_checkpoints": "skipped checkpoints: {why}",
        "asked_to_stop": "asked to stop by {by}",
        "cancelled": "cancelled",
        "attempt": "attempt {attempt}",
        "gave_up": "gave up: {reason}",
        "requeue_failed": "{reason}",
    }
    return lines[kind].format(**row) if kind in lines else None


def _numbers(row: dict[str, Any]) -> str:
    loss = "not finite" if row["loss"] is None else f"{row['loss']:.3f}"
    return f"loss {loss}  lr {row['lr']:.2e}  {row['tokens_per_s']:,.0f} tokens/s"


class _Eta:
    """Time left, from the steps seen so far in this watch."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def text(self, row: dict[str, Any], total: int) -> str:
        if self._first is None:
            self._first = (row["step"], row["time"])
        done = row["step"] - self._first[0]
        if done == 0:
            return "ETA -:--"
        left = (row["time"] - self._first[1]) / done * (total - row["step"])
        return f"ETA {int(left) // 60}:{int(left) % 60:02d}"


class _LiveView:
    """A bar that moves, with what happened printed above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._eta = _Eta()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
            transient=False,
        )
        self._task: TaskID = self._progress.add_task("starting", total=None, numbers="")

    def __enter__(self) -> "_LiveView":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def event(self, row: dict[str, Any]) -> None:
        if row["event"] == "phase":
            self._progress.update(self._task, description=row["phase"])
        elif line := _event_line(row):
            self._console.print(f"  {line}", style="dim", markup=False, highlight=False)

    def step(self, row: dict[str, Any], total: int | None) -> None:
        self._progress.update(
            self._task,
            description=f"step {row['step']}/{total or '?'}",
            completed=row["step"],
            total=total,
            numbers=f"{_numbers(row)}  {self._eta.text(row, total) if total else ''}",
        )


class _PlainView:
    """Lines for logs and pipes: every event, and the steps not more often than every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._eta = _Eta()
        self._last = 0.0

    def __enter__(self) -> "_PlainView":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def event(self, row: dict[str, Any]) -> None:
        line = f"{row['phase']} ..." if row["event"] == "phase" else _event_line(row)
        if line:
            self._print(line)

    def step(self, row: dict[str, Any], total: int | None) -> None:
        eta = self._eta.text(row, total) if total else ""
        now = time.monotonic()
        if now - self._last >= _PLAIN_LINE_EVERY_S or row["step"] == total:
            self._last = now
            self._print(f"step {row['step']}/{total or '?'}  {_numbers(row)}  {eta}")

"""Watch a run through its directory: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from launcher.records.history import since_last_submit
from launcher.status.queue import RecentView
from launcher.status.runs import RunStatus, read_status
from launcher.words import news
from train.journal.events import PhaseBegun
from train.journal.reading import KINDS
from train.metrics import MetricsRow, parse_metrics
from train.records.base import RunEvent
from train.rundir import RunDir, new_lines

_POLL_S = 0.2
_PLAIN_LINE_EVERY_S = 5.0
_FINAL = ("COMPLETED", "FAILED", "CANCELLED", "PREEMPTED")


class _Tail:
    """Reads the complete lines that were appended to a .jsonl file since the last call."""

    def __init__(self, path: Path, offset: int, number: int = 1) -> None:
        self._path = path
        self._offset = offset
        self._number = number
        """Of the next line."""

    def lines(self) -> tuple[list[bytes], Path, int]:
        lines, self._offset = new_lines(self._path, self._offset)
        first, self._number = self._number, self._number + len(lines)
        return lines, self._path, first


def watch(run: RunDir, console: Console) -> RunStatus:
    """Show a run until it ends and return its last status. Ctrl-C does not affect the run."""
    events = _Tail(run.events, 0)
    before = run.metrics.read_bytes() if run.metrics.exists() else b""
    metrics = _Tail(run.metrics, len(before), before.count(b"\n") + 1)
    view = _LiveView(console) if console.is_terminal else _PlainView(console)
    since_submit = False
    recent = RecentView()
    with view:
        while True:
            status = read_status(run, recent.look)
            journal = list(KINDS.read(*events.lines()))
            if not since_submit:
                # Events before the last submit are of earlier attempts: they are not shown again.
                journal, since_submit = since_last_submit(journal), True
            for event in journal:
                view.event(event)
            for row in parse_metrics(*metrics.lines()):
                view.step(row, status.total_steps)
            if status.state in _FINAL:
                return status
            time.sleep(_POLL_S)


def repeat(console: Console, show: Callable[[Console], bool], every_s: float, *, clear: bool = True) -> None:
    """Call `show` repeatedly until it returns False.

    Args:
        console: Passed to `show`.
        show: Prints; returns whether there is more to come.
        every_s: Seconds between two calls.
        clear: Whether a terminal is cleared before each call.
    """
    while True:
        if clear and console.is_terminal:
            console.clear()
        if not show(console):
            return
        time.sleep(every_s)


def _numbers(row: MetricsRow) -> str:
    """Loss, learning rate and speed of a step."""
    loss = "not finite" if row.loss is None else f"{row.loss:.3f}"
    return f"loss {loss}  lr {row.lr:.2e}  {row.tokens_per_s:,.0f} tokens/s"


class _Eta:
    """Estimates the time left from the steps seen since the watching began."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def text(self, row: MetricsRow, total: int) -> str:
        if self._first is None:
            self._first = (row.step, row.time)
        done = row.step - self._first[0]
        if done == 0:
            return "ETA -:--"
        left = (row.time - self._first[1]) / done * (total - row.step)
        return f"ETA {int(left) // 60}:{int(left) % 60:02d}"


class _LiveView:
    """A progress bar, with events printed above it."""

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

    def event(self, event: RunEvent) -> None:
        if isinstance(event, PhaseBegun):
            self._progress.update(self._task, description=event.phase)
        elif line := news(event):
            self._console.print(f"  {line}", style="dim", markup=False, highlight=False)

    def step(self, row: MetricsRow, total: int | None) -> None:
        self._progress.update(
            self._task,
            description=f"step {row.step}/{total or '?'}",
            completed=row.step,
            total=total,
            numbers=f"{_numbers(row)}  {self._eta.text(row, total) if total else ''}",
        )


class _PlainView:
    """Lines for logs and pipes: every event, and a step at most every few seconds."""

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

    def event(self, event: RunEvent) -> None:
        line = f"{event.phase} ..." if isinstance(event, PhaseBegun) else news(event)
        if line:
            self._print(line)

    def step(self, row: MetricsRow, total: int | None) -> None:
        eta = self._eta.text(row, total) if total else ""
        now = time.monotonic()
        if now - self._last >= _PLAIN_LINE_EVERY_S or row.step == total:
            self._last = now
            self._print(f"step {row.step}/{total or '?'}  {_numbers(row)}  {eta}")

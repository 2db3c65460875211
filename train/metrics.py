"""metrics.jsonl and trace.jsonl: typed rows of logged steps and of global batches. Torch-free."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from train.journal.parts import StepTimes
from train.records.base import Record, parse_line, record, to_row
from train.records.reading import from_row
from train.rundir import RunDir, append_line, new_lines


@record
class _Logged(Record):
    """What every row has had from the start, in the order in which people look for it."""

    attempt: int
    step: int
    loss: float | None
    """Mean per trained token of the newest global batches; None if it was not finite."""
    lr: float
    tokens: int
    """Without padding, of the whole run so far."""
    samples: int
    grad_norm: float | None
    """None if it was not finite."""
    tokens_per_s: float
    """Of all ranks, over the time in steps."""
    trained_tokens_per_s: float | None = None
    mfu: float | None = None
    """Model FLOPs utilisation; absent where the peak of the hardware is unknown."""


@record
class MetricsRow(StepTimes, _Logged):
    """One logged step."""

    memory_gb: float | None = None
    """Of the rank that holds most."""
    peak_memory_gb: float | None = None
    time: float


@record
class TraceRow(Record):
    """The samples of one global batch, with train.trace=true."""

    attempt: int
    step: int
    sample_ids: Sequence[int]
    random: float
    """A random number of rank 0 after the step: equal where the state of the generator is equal."""


class _Step(Protocol):
    @property
    def step(self) -> int: ...


_S = TypeVar("_S", bound=_Step)


def log_metrics(run: RunDir, row: MetricsRow) -> None:
    """Append a row to metrics.jsonl."""
    append_line(run.metrics, to_row(row), patient=True)


def log_trace(run: RunDir, row: TraceRow) -> None:
    """Append a row to trace.jsonl."""
    append_line(run.trace, to_row(row), patient=True)


def read_metrics(run: RunDir) -> list[MetricsRow]:
    """Every row of metrics.jsonl as it was written: steps that were made twice are there twice.

    Raises:
        RecordError: a field is missing, unknown or invalid.
    """
    return list(parse_metrics(new_lines(run.metrics, 0)[0], run.metrics))


def read_trace(run: RunDir) -> list[TraceRow]:
    """Every row of trace.jsonl, as `read_metrics`."""
    return list(_parse(new_lines(run.trace, 0)[0], run.trace, TraceRow))


def parse_metrics(lines: Iterable[bytes], path: Path, first: int = 1) -> Iterator[MetricsRow]:
    """The rows of whole lines, of which the first has this number; lines that were cut short are left out."""
    return _parse(lines, path, MetricsRow, first)


_R = TypeVar("_R", bound=Record)


def _parse(lines: Iterable[bytes], path: Path, cls: type[_R], first: int = 1) -> Iterator[_R]:
    for number, line in enumerate(lines, first):
        row = parse_line(line)
        if row is not None:
            yield from_row(cls, row, f"{path}:{number}")


def latest_by_step(rows: Iterable[_S]) -> list[_S]:
    """Each step once, in order: what a later attempt wrote replaces what it made again."""
    by_step = {row.step: row for row in rows}
    return [by_step[step] for step in sorted(by_step)]

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
    """The first fields of a metrics row, which all versions wrote."""

    attempt: int
    step: int
    loss: float | None
    """Mean loss per trained token since the last row; None if it was not finite."""
    lr: float
    tokens: int
    """Number of tokens trained in the whole run so far, without padding."""
    samples: int
    grad_norm: float | None
    """Norm of the gradients; None if it was not finite."""
    tokens_per_s: float
    """Tokens per second of all ranks, over the time in steps."""
    trained_tokens_per_s: float | None = None
    mfu: float | None = None
    """Model FLOPs utilisation; absent if the peak of the hardware is unknown."""


@record
class MetricsRow(StepTimes, _Logged):
    """One logged step."""

    memory_gb: float | None = None
    """Memory of the rank that uses the most."""
    peak_memory_gb: float | None = None
    time: float


@record
class TraceRow(Record):
    """The samples of one global batch, with train.trace=true."""

    attempt: int
    step: int
    sample_ids: Sequence[int]
    random: float
    """A random number of rank 0 after the step, which shows the state of the generator."""


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
    """Read all rows of metrics.jsonl; a repeated step has several rows.

    Raises:
        RecordError: A field is missing, unknown or invalid.
    """
    return list(parse_metrics(new_lines(run.metrics, 0)[0], run.metrics))


def read_trace(run: RunDir) -> list[TraceRow]:
    """Read all rows of trace.jsonl; a repeated step has several rows.

    Raises:
        RecordError: A field is missing, unknown or invalid.
    """
    return list(_parse(new_lines(run.trace, 0)[0], run.trace, TraceRow))


def parse_metrics(lines: Iterable[bytes], path: Path, first: int = 1) -> Iterator[MetricsRow]:
    """Parse complete lines, the first of which has the number `first`; truncated lines are skipped."""
    return _parse(lines, path, MetricsRow, first)


_R = TypeVar("_R", bound=Record)


def _parse(lines: Iterable[bytes], path: Path, cls: type[_R], first: int = 1) -> Iterator[_R]:
    for number, line in enumerate(lines, first):
        row = parse_line(line)
        if row is not None:
            yield from_row(cls, row, f"{path}:{number}")


def latest_by_step(rows: Iterable[_S]) -> list[_S]:
    """Return one row per step, in order; the last row of a repeated step is used."""
    by_step = {row.step: row for row in rows}
    return [by_step[step] for step in sorted(by_step)]

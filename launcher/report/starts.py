"""All starts of a run's ranks: how long each lasted, why it ended and the time lost. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import TypeVar

from launcher.records.history import Attempt
from launcher.report.contents import Mark, Start
from train.journal.events import AttemptEvent, Crashed, Preempted, RolledBack, Started, TrainingResumed
from train.journal.reading import of_kind
from train.metrics import MetricsRow
from train.records.base import RunEvent
from train.rundir import FINAL_STOPS

_E = TypeVar("_E", bound=AttemptEvent)
SILENT = "killed (no reason recorded)"
"""Description of the end of a start that was killed before it could record a reason."""


@dataclass(slots=True)
class _Span:
    """The journal and the metrics of one start."""

    attempt: int
    restart: int
    events: list[AttemptEvent] = field(default_factory=list)
    metrics: list[MetricsRow] = field(default_factory=list)
    kept: list[MetricsRow] = field(default_factory=list)
    """The metrics of steps that no later start repeated."""

    @property
    def began(self) -> float:
        return self.events[0].time

    @property
    def end(self) -> float:
        return max([event.time for event in self.events] + [row.time for row in self.metrics])

    def first(self, kind: type[_E]) -> _E | None:
        return next((event for event in self.events if isinstance(event, kind)), None)


def starts_of(
    events: Sequence[RunEvent], metrics: Sequence[MetricsRow], attempts: Sequence[Attempt]
) -> tuple[Start, ...]:
    """Return all starts, oldest first.

    Args:
        events: The journal.
        metrics: Rows of metrics.jsonl as they were written; repeated steps occur twice.
        attempts: Attempts of the same journal, with Slurm's reason for their end where it is known.
    """
    spans = _spans(events)
    _assign_metrics(spans, metrics)
    by_number = {attempt.number: attempt for attempt in attempts}
    return tuple(
        _start(span, after, by_number[span.attempt], again=span is not spans[0])
        for span, after in zip_longest(spans, spans[1:])
    )


def marks_of(
    starts: Sequence[Start], events: Sequence[RunEvent], metrics: Sequence[MetricsRow]
) -> tuple[Mark, ...]:
    """Return the interruptions of the curve: every start but the first, and every rollback."""
    tokens = {row.step: row.tokens for row in metrics}
    found = [
        (start.from_step, f"{name_of(start)} continues here; the last one ended: {before.ended or SILENT}")
        for before, start in pairwise(starts)
    ]
    found += [
        (event.to_step, f"rolled back from step {event.step}: {event.reason}")
        for event in of_kind(events, RolledBack)
    ]
    return tuple(Mark(step=step, tokens=tokens.get(step, 0), text=text) for step, text in sorted(found))


def name_of(start: Start) -> str:
    """Return the name of a start, such as `attempt 2` or `attempt 2, restart 1`."""
    return f"attempt {start.attempt}" + (f", restart {start.restart}" if start.restart else "")


def _spans(events: Sequence[RunEvent]) -> list[_Span]:
    """Split the journal at each attempt, and within an attempt after each crash with a restart in place."""
    spans: list[_Span] = []
    for event in of_kind(events, AttemptEvent):
        last = spans[-1] if spans else None
        if last is None or last.attempt != event.attempt:
            spans.append(_Span(event.attempt, 0))
        elif (crash := last.first(Crashed)) and crash.then == "restart":
            spans.append(_Span(event.attempt, last.restart + 1))
        spans[-1].events.append(event)
    return spans


def _assign_metrics(spans: Sequence[_Span], metrics: Sequence[MetricsRow]) -> None:
    """Assign each row of the metrics to the span that wrote it, and mark those that were not repeated."""
    newest = {row.step: id(row) for row in metrics}
    by_attempt: dict[int, list[_Span]] = {}
    for span in spans:
        by_attempt.setdefault(span.attempt, []).append(span)
    for row in metrics:
        for span in reversed(by_attempt.get(row.attempt, [])):
            if span.began <= row.time:
                span.metrics.append(row)
                if newest[row.step] == id(row):
                    span.kept.append(row)
                break


def _start(span: _Span, after: _Span | None, attempt: Attempt, *, again: bool) -> Start:
    resumed, started = span.first(TrainingResumed), span.first(Started)
    from_step = resumed.step if resumed else 0
    to_step = max((row.step for row in span.metrics), default=from_step)
    last_kept = max((row.step for row in span.kept), default=from_step)
    return Start(
        attempt=span.attempt,
        restart=span.restart,
        job_id=attempt.job_id,
        nodes=attempt.nodes,
        ranks=started.world_size if started else None,
        began=span.began,
        held_s=span.end - span.began,
        from_step=from_step,
        to_step=to_step,
        redone_steps=to_step - last_kept if after else 0,
        lost_s=_lost_s(span, after, again),
        ended=_ended(span, attempt),
    )


def _ended(span: _Span, attempt: Attempt) -> str | None:
    crash = span.first(Crashed)
    return crash.reason if crash and crash.then == "restart" else attempt.ended


def _lost_s(span: _Span, after: _Span | None, again: bool) -> float:
    """Return the time without progress: before the first step, except of the first start, and at the end."""
    first = span.metrics[0].time if span.metrics else span.end
    starting_s = first - span.began if again else 0.0
    if after is None:
        return float(starting_s)
    gained = span.kept[-1].time if span.kept else first
    return float(starting_s + max(0.0, _resumed_at(span, after) - gained))


def _resumed_at(span: _Span, after: _Span) -> float:
    """Return when the next start began; the time after a stop by the user does not count as lost."""
    stop = span.first(Preempted)
    return span.end if stop and stop.reason in FINAL_STOPS else after.began

"""Text that several pages and tables use."""

import math

from train.journal.events import (
    AskedToStop,
    AttemptBegun,
    BadStep,
    Cancelled,
    Changed,
    CheckpointSaved,
    Compiled,
    Crashed,
    DataPrepared,
    EndedEarly,
    GaveUp,
    Preempted,
    Requeued,
    RequeueFailed,
    RolledBack,
    SaveFailed,
    ShortNotice,
    SkippedCheckpoints,
    TrackingFailed,
    TrainingResumed,
    Validated,
)
from train.journal.parts import DataReport
from train.records.base import RunEvent

_THEN = {
    "restart": "restarting the ranks",
    "requeue": "requeueing the job",
    "stop": "stopping",
}

_OVERLONG = {
    "truncate": "truncated",
    "cut": "truncated",
    "split": "split",
    "drop": "dropped",
}
"""Past participle of each value of data.overlong; `cut` is the former name of `truncate`."""


def duration(seconds: float) -> str:
    """Format seconds in seconds, minutes, hours or days."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun in singular or plural: `1 attempt`, `2 attempts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short_notice(event: ShortNotice) -> str:
    """Format a warning that the time between signal and kill is too short to save."""
    return (
        f"a step and a save take {event.needed_s} s, but the job gets a signal only {event.notice_s} s before"
        f" it is killed; set slurm.signal_delay_s={math.ceil(event.needed_s)} or more"
    )


def about_the_compilation(event: Compiled) -> str:
    """Summarise the compilation of layers by torch.compile."""
    breaks = [f"{reason} ({count} x)" for reason, count in event.graph_breaks.items()]
    left = [f"{reason} ({count} x)" for reason, count in event.left_to_python.items()]
    return (
        f"{event.layers} layers compiled by step {event.step} in {event.seconds:.1f} s, into"
        f" {event.graphs} graphs"
        + (f"; graph breaks: {', '.join(breaks)}" if breaks else ", no graph breaks")
        + (f"; not compiled: {', '.join(left)}" if left else "")
    )


def about_the_data(report: DataReport | None) -> str | None:
    """Summarise the rows that were truncated, split, dropped or packed; None if every row is one sequence."""
    if report is None:
        return None
    done = _OVERLONG[report.overlong]
    parts = [
        f"{report.overlong_rows} of {report.rows} training rows exceeded data.max_length and were {done}"
        if report.overlong_rows
        else "",
        f"{report.documents} documents in {report.sequences} packed sequences, {report.fill:.1%} full"
        if report.fill is not None
        else "",
    ]
    return "; ".join(part for part in parts if part) + "." if any(parts) else None


def news(event: RunEvent) -> str | None:  # noqa: C901, PLR0912 - one line for each kind
    """Format an event as a line of `logs -f`, or return None if it is not shown."""
    match event:
        case Validated():
            return _about_the_validation(event)
        case CheckpointSaved():
            return f"checkpoint at step {event.step}: {event.bytes / 1e6:,.1f} MB in {event.seconds:.1f} s"
        case Crashed():
            return f"{event.reason}; {_THEN[event.then]}"
        case DataPrepared():
            return about_the_data(event)
        case Compiled():
            return about_the_compilation(event)
        case ShortNotice():
            return short_notice(event)
        case Requeued():
            without = f", without {', '.join(event.without)}" if event.without else ""
            return f"requeued{without}"
        case TrainingResumed():
            return f"resumed after step {event.step}"
        case EndedEarly():
            return f"ended early at step {event.step}: {event.reason}"
        case Preempted():
            return f"stopped by {event.reason} after step {event.step}"
        case SkippedCheckpoints():
            return f"skipped checkpoints: {event.reason}"
        case AskedToStop():
            return f"stop requested by {event.reason}"
        case Cancelled():
            return "cancelled"
        case AttemptBegun():
            return f"attempt {event.attempt}"
        case GaveUp():
            return f"gave up: {event.reason}"
        case TrackingFailed() | RequeueFailed():
            return event.reason
        case _:
            return None


def note(event: RunEvent) -> str | None:
    """Format an event for the list of notable events in a report, or return None if it is not listed."""
    match event:
        case BadStep() | SaveFailed():
            return f"step {event.step}: {event.reason}"
        case RolledBack():
            return f"from step {event.step} back to {event.to_step}: {event.reason}"
        case SkippedCheckpoints() | TrackingFailed() | RequeueFailed() | GaveUp():
            return event.reason
        case ShortNotice():
            return short_notice(event)
        case Changed():
            return "; ".join(event.keys)
        case Cancelled():
            return "by the user"
        case Compiled():
            return about_the_compilation(event)
        case _:
            return None


def _about_the_validation(event: Validated) -> str:
    score = f"validation at step {event.step}: loss {event.loss:.3f}"
    if event.accuracy is not None and event.macro_f1 is not None:
        score += f", accuracy {event.accuracy:.3f}, macro-F1 {event.macro_f1:.3f}"
    return score + (" (best so far)" if event.best else "")

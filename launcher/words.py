"""Text that several pages and tables share."""

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
    "restart": "starting the ranks again",
    "requeue": "going back into the queue",
    "stop": "stopping",
}

_OVERLONG = {
    "truncate": "were cut",
    "cut": "were cut",
    "split": "were split",
    "drop": "were left out",
}
"""What was done with rows that were too long; `cut` is the former name of `truncate`."""


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def short_notice(event: ShortNotice) -> str:
    """The warning that a stop may come too late."""
    return (
        f"a step and a save take {event.needed_s} s, and a stop is announced {event.notice_s} s before:"
        " raise slurm.signal_delay_s"
    )


def about_the_compilation(event: Compiled) -> str:
    """What torch.compile made of the layers, up to a step."""
    breaks = [f"{reason} ({count} x)" for reason, count in event.graph_breaks.items()]
    left = [f"{reason} ({count} x)" for reason, count in event.left_to_python.items()]
    return (
        f"{event.layers} layers compiled by step {event.step} in {event.seconds:.1f} s, as"
        f" {event.graphs} graphs"
        + (f"; graph breaks: {', '.join(breaks)}" if breaks else ", without a graph break")
        + (f"; left to Python: {', '.join(left)}" if left else "")
    )


def about_the_data(report: DataReport | None) -> str | None:
    """What became of the rows, from the result or the journal; None if each is simply one whole sequence."""
    if report is None:
        return None
    done = _OVERLONG[report.overlong]
    parts = [
        f"{report.overlong_rows} of {report.rows} training rows were too long and {done}"
        if report.overlong_rows
        else "",
        f"{report.documents} documents in {report.sequences} packs, {report.fill:.1%} full"
        if report.fill is not None
        else "",
    ]
    return "; ".join(part for part in parts if part) + "." if any(parts) else None


def news(event: RunEvent) -> str | None:  # noqa: C901, PLR0912 - one line for each kind
    """A journal entry as a line of `logs -f`; None where people need not see it."""
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
            return f"back into the queue{without}"
        case TrainingResumed():
            return f"resumed after step {event.step}"
        case EndedEarly():
            return f"ended early at step {event.step}: {event.reason}"
        case Preempted():
            return f"stopped by {event.reason} after step {event.step}"
        case SkippedCheckpoints():
            return f"skipped checkpoints: {event.reason}"
        case AskedToStop():
            return f"asked to stop by {event.reason}"
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
    """A journal entry as a report's list of notable events tells it; None where it does not belong there."""
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

"""What the journal tells of a run's attempts. Pure, over the rows of events.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.rundir import FINAL_STOPS

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a job, as far as it wrote down what became of it."""

    number: int
    job_id: str | None
    nodes: str | None
    """As Slurm writes them; None on a single machine."""
    started: float
    """Seconds since the epoch."""
    progressed: bool
    """Whether it made a checkpoint of a step that none before it had reached."""
    stopped_for_good: bool
    """By `shardline stop`, or at a rung of a sweep."""
    ended: str | None
    """Why it ended; None while it runs, and when it was killed without a word."""
    start: Mapping[str, float] | None = None
    """Seconds by phase from a rank's exec to its first step, of the newest start in place; None before it."""


def attempts_of(events: Sequence[Event]) -> list[Attempt]:
    """All attempts, oldest first."""
    numbers = sorted({row["attempt"] for row in events if "attempt" in row})
    best = 0
    found = []
    for number in numbers:
        rows = [row for row in events if row.get("attempt") == number]
        reached = max((row["step"] for row in rows if row["event"] == "checkpoint"), default=0)
        found.append(_attempt(number, rows, progressed=reached > best))
        best = max(best, reached)
    return found


def since_last_submit(events: Sequence[Event]) -> list[Event]:
    """The journal from the newest submission on: what was before it is settled."""
    last = max((i for i, row in enumerate(events) if row["event"] == "submitted"), default=0)
    return list(events[last:])


def stalled_attempts(events: Sequence[Event]) -> list[Attempt]:
    """The newest attempts of the newest submission, as many in a row as made no progress."""
    current = {row["attempt"] for row in since_last_submit(events) if "attempt" in row}
    stalled: list[Attempt] = []
    for attempt in reversed(attempts_of(events)):
        if attempt.progressed or attempt.number not in current:
            break
        stalled.insert(0, attempt)
    return stalled


def unfit_nodes(events: Sequence[Event]) -> list[str]:
    """Nodes that failed a check at some start, and that later starts avoid."""
    rows = (row for row in events if row["event"] == "crashed" and row["failure_class"] == "node")
    return sorted({row["host"] for row in rows})


def silent_end(attempt: Attempt) -> str:
    """Words for an attempt that said nothing before it ended."""
    where = f" on {attempt.nodes}" if attempt.nodes else ""
    return f"attempt {attempt.number}{where} was killed without a word"


def _attempt(number: int, rows: Sequence[Event], *, progressed: bool) -> Attempt:
    begun = next((row for row in rows if row["event"] == "attempt"), rows[0])
    stop = next((row for row in rows if row["event"] == "preempted"), None)
    crashes = [row for row in rows if row["event"] == "crashed" and row["then"] != "restart"]
    finished = any(row["event"] == "finished" for row in rows)
    ended: str | None = None
    if finished:
        ended = "finished"
    elif crashes:
        ended = crashes[-1]["reason"]
    elif stop:
        ended = f"stopped by {stop['reason']} after step {stop['step']}"
    return Attempt(
        number=number,
        job_id=begun.get("job_id"),
        nodes=begun.get("nodes"),
        started=begun["time"],
        progressed=progressed,
        stopped_for_good=stop is not None and stop["reason"] in FINAL_STOPS,
        ended=ended,
        start=next((row["seconds"] for row in reversed(rows) if row["event"] == "start"), None),
    )

"""How the ranks of a run spent their time over all attempts, from journal and metrics. Pure, torch-free."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from train.journal.events import (
    AttemptBegun,
    AttemptEvent,
    Crashed,
    PhaseBegun,
    Preempted,
    RolledBack,
    RunFinished,
    Started,
    Trained,
    TrainingResumed,
)
from train.journal.phases import Phase
from train.journal.reading import attempts_in, of_kind
from train.metrics import MetricsRow
from train.records.base import RunEvent

Use = Literal["start", "train", "save", "evaluate"]
_Report = MetricsRow | Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Shares of the time for which ranks were held; the shares add up to 1."""

    held_s: float
    """Seconds for which attempts held their ranks."""
    held_rank_s: float
    """Rank seconds (seconds times ranks) for which attempts held their ranks."""
    steps: float
    """Share of steps that count; steps repeated by a later start do not."""
    start: float
    """Share of starts: from the beginning of an attempt, or the end of a rank, to the first step."""
    save: float
    """Share of saves that block training, the last save and the export."""
    evaluate: float
    """Share of validations and assessments."""
    lost: float
    """The remaining share: repeated steps, hangs and time between steps."""

    @property
    def shares(self) -> dict[str, float]:
        """The shares by use, as in result.json."""
        return {use: getattr(self, use) for use in ("steps", "start", "save", "evaluate", "lost")}


def use_of(phase: Phase) -> Use:
    """Return the use of a phase. The type checker rejects a phase that is missing here."""
    match phase:
        case Phase.TRAIN:
            return "train"
        case Phase.SAVE | Phase.EXPORT:
            return "save"
        case Phase.ASSESS_BASE | Phase.ASSESS_TUNED:
            return "evaluate"
        case Phase.IMPORTS | Phase.PREPARE_MODEL | Phase.PREPARE_DATA | Phase.PROCESS_GROUP:
            return "start"
        case Phase.LOAD_MODEL | Phase.ENGINE | Phase.TRACKING | Phase.RESTORE | Phase.FIRST_STEP:
            return "start"
    assert_never(phase)


def goodput(events: Sequence[RunEvent], metrics: Sequence[MetricsRow], now: float) -> Goodput | None:
    """Account for every second of every attempt, up to its last event or row.

    Args:
        events: The journal. The `trained` event of an attempt has the times after its last row of metrics.
        metrics: The rows of metrics, with the times of `train/rank/meter.py`.
        now: The current time, which ends the newest attempt; seconds since the epoch.

    Returns:
        The shares, or None if no attempt has begun.
    """
    numbers = attempts_in(events)
    if not numbers:
        return None
    both: list[_Report] = [*metrics, *of_kind(events, Trained)]
    reports = sorted(both, key=lambda report: report.time)
    counted = _counted_shares(events, reports)
    spent: dict[str, float] = dict.fromkeys(("steps", "start", "save", "evaluate"), 0.0)
    held_s = held_rank_s = 0.0
    for number in numbers:
        mine = [event for event in of_kind(events, AttemptEvent) if event.attempt == number]
        rows = [(row, share) for row, share in zip(reports, counted, strict=True) if row.attempt == number]
        last_sign = max([event.time for event in mine] + [row.time for row, _ in rows])
        ranks = _ranks(events, number)
        for use, seconds in _phases(mine, now if number == numbers[-1] else last_sign):
            held_s += seconds
            held_rank_s += seconds * ranks
            if use in spent:
                spent[use] += seconds * ranks
        for row, share in rows:
            spent["steps"] += row.in_steps_s * share * ranks
            spent["save"] += (row.time_save_s or 0.0) * ranks
            spent["evaluate"] += (row.time_evaluate_s or 0.0) * ranks
    shares = {use: seconds / held_rank_s if held_rank_s else 0.0 for use, seconds in spent.items()}
    return Goodput(held_s=held_s, held_rank_s=held_rank_s, **shares, lost=1.0 - sum(shares.values()))


def _ranks(events: Sequence[RunEvent], attempt: int) -> int:
    """Return the number of ranks of an attempt, or of the nearest attempt that recorded it."""
    nearest = min(
        of_kind(events, Started),
        key=lambda started: (abs(started.attempt - attempt), started.attempt),
        default=None,
    )
    return nearest.world_size if nearest else 1


def _phases(events: Sequence[AttemptEvent], until: float) -> Iterator[tuple[Use | None, float]]:
    """Yield the uses of an attempt in order, with their seconds; None once the attempt is ending or over."""
    use: Use | None = "start"
    since = events[0].time
    for event in events:
        following = _use_after(event, use)
        if following != use:
            yield use, max(0.0, event.time - since)
            use, since = following, max(since, event.time)
    yield use, max(0.0, until - since)


def _use_after(event: AttemptEvent, use: Use | None) -> Use | None:
    if isinstance(event, PhaseBegun):
        return use_of(event.phase)
    if isinstance(event, Crashed):
        return "start" if event.then == "restart" else None
    return None if isinstance(event, Preempted | RunFinished) else use


def _counted_shares(events: Sequence[RunEvent], reports: Sequence[_Report]) -> list[float]:
    """Return for each report the share of its steps that no later start or rollback repeated."""
    marks = [(time, -1, step) for time, step in _begins(events)]
    marks += [(report.time, number, report.step) for number, report in enumerate(reports)]
    marks.sort()
    before, reached = [0] * len(reports), 0
    for _, number, step in marks:
        if number >= 0:
            before[number] = reached
        reached = step
    shares, kept = [1.0] * len(reports), math.inf
    for _, number, step in reversed(marks):
        if number < 0:
            kept = min(kept, step)
        elif (made := step - before[number]) > 0:
            shares[number] = min(1.0, max(0.0, (kept - before[number]) / made))
    return shares


def _begins(events: Sequence[RunEvent]) -> list[tuple[float, int]]:
    """Return time and step at which training continued: at each start and each rollback."""
    begins: list[tuple[float, int]] = []
    resumed = 0
    for event in events:
        if isinstance(event, AttemptBegun | Crashed):
            resumed = 0
        elif isinstance(event, TrainingResumed):
            resumed = event.step
        elif isinstance(event, RolledBack):
            begins.append((event.time, event.to_step))
        elif isinstance(event, PhaseBegun) and event.phase is Phase.TRAIN:
            begins.append((event.time, resumed))
    return begins

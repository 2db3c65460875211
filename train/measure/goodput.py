"""What the time of a run's ranks went into, over all attempts, from journal and metrics. Pure, torch-free."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
Use = Literal["start", "train", "save", "evaluate"]

_STEP_FIELDS = ("time_data_s", "time_forward_s", "time_backward_s", "time_step_s")
_USE_OF_PHASE: dict[str, Use] = {
    "train": "train",
    "save": "save",
    "export": "save",
    "assess base": "evaluate",
    "assess tuned": "evaluate",
}
"""Phases that the journal names; all others belong to the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Shares of the time that ranks were held; they add up to 1."""

    held_s: float
    """How long attempts held their ranks."""
    held_rank_s: float
    """Seconds times ranks: an attempt on more ranks weighs more."""
    steps: float
    """In steps that count: those that a later start made again do not."""
    start: float
    """From an attempt's begin, or a rank's end, to the first step."""
    save: float
    """Training that waited for a save, the last save, the export."""
    evaluate: float
    lost: float
    """All the rest: steps made in vain, hangs, whatever lies between the steps."""

    @property
    def shares(self) -> dict[str, float]:
        """By use, as result.json holds them."""
        return {use: getattr(self, use) for use in ("steps", "start", "save", "evaluate", "lost")}


def goodput(events: Sequence[Row], metrics: Sequence[Row], now: float) -> Goodput | None:
    """Account for every second of every attempt, each until its last sign of life.

    Args:
        events: The journal. The times after an attempt's last row of metrics are in its `trained`.
        metrics: With the times of `train/rank/meter.py`.
        now: When the newest attempt, which is under way, is looked at; seconds since the epoch.

    Returns:
        None where no attempt has begun.
    """
    numbers = sorted({row["attempt"] for row in events if "attempt" in row})
    if not numbers:
        return None
    reports = sorted(
        [*metrics, *(row for row in events if row["event"] == "trained")], key=lambda r: r["time"]
    )
    counted = _counted_shares(events, reports)
    spent: dict[str, float] = dict.fromkeys(("steps", "start", "save", "evaluate"), 0.0)
    held_s = held_rank_s = 0.0
    for number in numbers:
        mine = [row for row in events if row.get("attempt") == number]
        rows = [(row, share) for row, share in zip(reports, counted, strict=True) if row["attempt"] == number]
        last_sign = max(row["time"] for row in [*mine, *(row for row, _ in rows)])
        ranks = _ranks(events, number)
        for use, seconds in _phases(mine, now if number == numbers[-1] else last_sign):
            held_s += seconds
            held_rank_s += seconds * ranks
            if use in spent:
                spent[use] += seconds * ranks
        for row, share in rows:
            spent["steps"] += _step_s(row) * share * ranks
            spent["save"] += row.get("time_save_s", 0.0) * ranks
            spent["evaluate"] += row.get("time_evaluate_s", 0.0) * ranks
    shares = {use: seconds / held_rank_s if held_rank_s else 0.0 for use, seconds in spent.items()}
    return Goodput(held_s=held_s, held_rank_s=held_rank_s, **shares, lost=1.0 - sum(shares.values()))


def _step_s(row: Row) -> float:
    return float(sum(row[field] for field in _STEP_FIELDS))


def _ranks(events: Sequence[Row], attempt: int) -> int:
    """Of an attempt, or the nearest one that got far enough to say it."""
    said = [(row["attempt"], row["world_size"]) for row in events if row["event"] == "started"]
    nearest = min(said, key=lambda entry: (abs(entry[0] - attempt), entry[0]), default=(attempt, 1))
    return int(nearest[1])


def _phases(events: Sequence[Row], until: float) -> Iterator[tuple[Use | None, float]]:
    """What an attempt did one after the other, and for how long; None: it was over, or on its way out."""
    use: Use | None = "start"
    since = events[0]["time"]
    for row in events:
        following = _use_after(row, use)
        if following != use:
            yield use, max(0.0, row["time"] - since)
            use, since = following, max(since, row["time"])
    yield use, max(0.0, until - since)


def _use_after(row: Row, use: Use | None) -> Use | None:
    if row["event"] == "phase":
        return _USE_OF_PHASE.get(row["phase"], "start")
    if row["event"] == "crashed":
        return "start" if row["then"] == "restart" else None
    return None if row["event"] in ("preempted", "finished") else use


def _counted_shares(events: Sequence[Row], reports: Sequence[Row]) -> list[float]:
    """For each report the share of its steps that no later start or return made again."""
    marks = [(time, -1, step) for time, step in _begins(events)]
    marks += [(row["time"], number, row["step"]) for number, row in enumerate(reports)]
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


def _begins(events: Sequence[Row]) -> list[tuple[float, int]]:
    """When training went on, and after which step: at each start, and at each return past bad batches."""
    begins: list[tuple[float, int]] = []
    resumed = 0
    for row in events:
        if row["event"] in ("attempt", "crashed"):
            resumed = 0
        elif row["event"] == "resumed":
            resumed = row["step"]
        elif row["event"] == "rollback":
            begins.append((row["time"], row["to_step"]))
        elif row["event"] == "phase" and row["phase"] == "train":
            begins.append((row["time"], resumed))
    return begins

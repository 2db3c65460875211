"""What a report tells, before anybody thinks of how it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.node.halving import RungDecision
from launcher.sweep.leaderboard import Leaderboard
from launcher.sweep.results import Direction, TrialResult


@dataclass(frozen=True, slots=True)
class Series:
    """A measure over the course of a training; three columns of the same length."""

    steps: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    """Seen until then."""
    values: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """All that was measured along the way, thinned for drawing."""

    loss: Series
    """Of the global batches."""
    trend: Series
    """The same, as a running mean."""
    validation: Series
    rate: Series
    """Learning rate."""
    speed: Series
    """Tokens per second, all ranks together."""
    norm: Series
    """Of the gradient, before clipping."""
    rows: int
    """Steps that were logged, before thinning."""
    not_finite: int
    """Logged steps whose loss was not a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the ranks: of an attempt, or in place within one."""

    attempt: int
    restart: int
    """0 for the attempt itself, then counting the starts in place."""
    job_id: str | None
    nodes: str | None
    ranks: int | None
    began: float
    """Seconds since the epoch."""
    held_s: float
    """From there to the last that it wrote."""
    from_step: int
    to_step: int
    redone_steps: int
    """Of its steps, those that a later start made again."""
    lost_s: float
    """Time without gain: starting again, work that was redone, and waiting for the next start."""
    ended: str | None
    """None while it runs, and when it was killed without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that interrupted the curve."""

    step: int
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measure of one data set, before and after."""

    of: str
    """Which set: `task` or `general`."""
    rows: int
    measure: str
    direction: Direction
    base: float | None
    tuned: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A held-out question and who said what."""

    question: str
    reference: str | None
    base: str | None
    tuned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFact:
    """A checkpoint that is there."""

    step: int
    usable: bool
    problem: str | None
    nbytes: int | None
    ranks: int | None
    loss: float | None
    made: float | None
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saves:
    """What saving cost, over the whole run."""

    count: int
    written_s: float
    """In the background."""
    stalled_s: float
    """For which the training waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line of the journal that a reader should know of."""

    time: float
    event: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFact:
    """By what something was computed at the last start, and why."""

    kernel: str
    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a finished run took."""

    samples: int
    tokens: int
    allocated_s: float
    rank_hours: float
    tokens_per_s: float | None
    peak_gb: float
    """Host memory of the rank that took most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A single run."""

    name: str
    place: str
    state: str
    why: str
    step: int
    total_steps: int | None
    submitted: float | None
    curves: Curves
    marks: tuple[Mark, ...]
    starts: tuple[Start, ...]
    scores: tuple[Score, ...]
    answers: tuple[Answer, ...]
    cost: Cost | None
    """None until it is finished."""
    best_step: int | None
    best_loss: float | None
    """By validation."""
    assessed_step: int | None
    checkpoints: tuple[CheckpointFact, ...]
    saves: Saves
    notes: tuple[Note, ...]
    kernels: tuple[KernelFact, ...]
    """Empty before the first start."""
    config: Mapping[str, Any]
    """By dotted key."""
    origin: Mapping[str, str]
    """Versions and git state of the frozen code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """One trial of a sweep."""

    result: TrialResult
    label: str
    """Its point in short."""
    curves: Curves
    starts: tuple[Start, ...]
    scores: tuple[Score, ...]
    config: Mapping[str, Any]
    """By dotted key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """A sweep."""

    place: str
    created: str
    overrides: tuple[str, ...]
    board: Leaderboard
    trials: tuple[TrialReport, ...]
    decisions: Sequence[RungDecision]
    """Of successive halving, oldest first."""
    halving: bool
    """Whether the sweep is halved at all."""

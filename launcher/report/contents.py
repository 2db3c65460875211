"""Contents of a report, independent of its layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.node.halving import RungDecision
from launcher.sweep.leaderboard import Leaderboard
from launcher.sweep.results import Direction, TrialResult


@dataclass(frozen=True, slots=True)
class Series:
    """The course of a measure over a training run; three columns of the same length."""

    steps: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    """Tokens seen up to each step."""
    values: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """All measures of a run, thinned for drawing."""

    loss: Series
    """Loss of the global batches."""
    trend: Series
    """Running mean of the loss."""
    validation: Series
    rate: Series
    """Learning rate."""
    speed: Series
    """Tokens per second of all ranks together."""
    norm: Series
    """Norm of the gradient before clipping."""
    rows: int
    """Number of logged steps before thinning."""
    not_finite: int
    """Number of logged steps whose loss is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the ranks: the first of an attempt, or a restart in place within it."""

    attempt: int
    restart: int
    """0 for the first start of the attempt, then the number of the restart in place."""
    job_id: str | None
    nodes: str | None
    ranks: int | None
    began: float
    """Seconds since the epoch."""
    held_s: float
    """Seconds from then to its last journal entry or logged step."""
    from_step: int
    to_step: int
    redone_steps: int
    """Number of its steps that a later start repeated."""
    lost_s: float
    """Time without progress: restarting, steps that were repeated, and waiting for the next start."""
    ended: str | None
    """The reason why it ended; None while it runs, or if it was killed before it could record one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An interruption of the training, marked in the curves."""

    step: int
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measure of one data set for the base and the tuned model."""

    of: str
    """The data set: `task` or `general`."""
    rows: int
    measure: str
    direction: Direction
    base: float | None
    tuned: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A held-out question with the answers of the base and the tuned model."""

    question: str
    reference: str | None
    base: str | None
    tuned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFact:
    """A checkpoint on disk."""

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
    """Cost of all saves of a run."""

    count: int
    written_s: float
    """Seconds of writing in the background."""
    stalled_s: float
    """Seconds that the training waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A notable journal entry."""

    time: float
    event: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFact:
    """A kernel that the last start used, and why."""

    kernel: str
    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Resources that a finished run used."""

    samples: int
    tokens: int
    allocated_s: float
    rank_hours: float
    tokens_per_s: float | None
    peak_gb: float
    """Peak host memory of the rank that used most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Contents of a run's report."""

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
    """None until the run is finished."""
    best_step: int | None
    best_loss: float | None
    """The lowest validation loss."""
    assessed_step: int | None
    checkpoints: tuple[CheckpointFact, ...]
    saves: Saves
    notes: tuple[Note, ...]
    kernels: tuple[KernelFact, ...]
    """Kernels of the last start; empty before the first."""
    config: Mapping[str, Any]
    """Values by dotted key."""
    origin: Mapping[str, str]
    """Versions and git state of the frozen code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """Contents of one trial in a sweep's report."""

    result: TrialResult
    label: str
    """Short text of its swept values."""
    curves: Curves
    starts: tuple[Start, ...]
    scores: tuple[Score, ...]
    config: Mapping[str, Any]
    """Values by dotted key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """Contents of a sweep's report."""

    place: str
    created: str
    overrides: tuple[str, ...]
    board: Leaderboard
    trials: tuple[TrialReport, ...]
    decisions: Sequence[RungDecision]
    """Decisions of successive halving, oldest first."""
    halving: bool
    """Whether the sweep uses successive halving."""

"""All kinds of events in a run's journal, in the order in which they occur in a run.

The names of kinds and fields are an API and must not change. A new field needs a default, for older journals;
`renamed` maps the old name of a field. The snapshot of a run's code reads events that newer commands write
(`submitted`, `changed`, `cancelled`), so these three must not change at all.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from train.failures import FailureClass, Then
from train.journal.parts import ConvertedFrom, DataReport, KernelUse, Scores, StepTimes
from train.journal.phases import Phase
from train.records.base import Row, RunEvent, record

_WHY = {"why": "reason"}
_BY = {"by": "reason"}
_LOAD_BEST = "load best step "


@record
class Submitted(RunEvent):
    """A job was about to be started."""

    event = "submitted"
    executor: Literal["local", "slurm"]
    name: str | None = None
    """The job name in Slurm."""
    host: str | None = None
    """The machine of a job outside Slurm."""


@record
class Changed(RunEvent):
    """The config or package versions changed since the last submission."""

    event = "changed"
    keys: Sequence[str]
    """The changes as text: key, both values and the consequence."""
    insisted: Sequence[str]
    """Keys passed with --allow-change."""


@record
class Cancelled(RunEvent):
    """The user cancelled the run."""

    event = "cancelled"
    job_id: str | None


@record
class Superseded(RunEvent):
    """A job of an earlier submission started and exited immediately."""

    event = "superseded"
    job_id: str


@record
class AskedToStop(RunEvent):
    """A node agent received a request to save and stop."""

    event = "asked_to_stop"
    renamed = _BY
    reason: str
    """The signal of the request."""
    pid: int


@record
class Requeued(RunEvent):
    """The job was about to be requeued in Slurm."""

    event = "requeued"
    job_id: str
    without: Sequence[str]
    """Nodes that are excluded from now on."""


@record
class RequeueFailed(RunEvent):
    """Slurm rejected the requeue; the run failed."""

    event = "requeue_failed"
    job_id: str
    reason: str


@record
class GaveUp(RunEvent):
    """Too many attempts in a row saved no checkpoint; the run failed."""

    event = "gave_up"
    reason: str


@record
class AttemptEvent(RunEvent):
    """An event that belongs to one attempt."""

    attempt: int
    """Number of the attempt, counted from 1; each start of the job is an attempt."""


@record
class AttemptBegun(AttemptEvent):
    """The job started on its nodes."""

    event = "attempt"
    job_id: str
    nodes: str | None
    """The node list in Slurm's notation; None without Slurm."""


@record
class FaultsInjected(AttemptEvent):
    """Faults are injected deliberately, for tests."""

    event = "faults"
    wanted: str


@record
class PhaseBegun(AttemptEvent):
    """A phase of the run began."""

    event = "phase"
    phase: Phase

    @classmethod
    def upgraded(cls, row: Row) -> Row:
        """Map the phase `load best step N` of early versions to `save`."""
        early = str(row.get("phase")).startswith(_LOAD_BEST)
        return {**row, "phase": Phase.SAVE.value} if early else row


@record
class KernelsChosen(AttemptEvent):
    """The kernels were chosen, after comparing each with its reference."""

    event = "kernels"
    engaged: Mapping[str, KernelUse]


@record
class Started(AttemptEvent):
    """All ranks have started."""

    event = "started"
    world_size: int
    total_steps: int
    restart: int = 0
    """Number of earlier restarts in this attempt; defaults to 0 for older journals."""
    start_method: Literal["fork", "spawn"] = "spawn"
    """How the ranks were started (`train.start_method`); defaults to `spawn` for older journals."""


@record
class DataPrepared(DataReport, AttemptEvent):
    """The training data was prepared; written once for all attempts."""

    event = "data"


@record
class SkippedCheckpoints(AttemptEvent):
    """Unusable checkpoints were skipped."""

    event = "skipped_checkpoints"
    renamed = _WHY
    reason: str
    """The problem of each checkpoint."""

    @classmethod
    def upgraded(cls, row: Row) -> Row:
        """Join the list of reasons that earlier versions wrote."""
        new = {**super().upgraded(row)}
        if isinstance(new.get("reason"), list):
            new["reason"] = "; ".join(map(str, new["reason"]))
        return new


@record
class TrainingResumed(AttemptEvent):
    """Training resumed from a checkpoint."""

    event = "resumed"
    step: int
    converted_from: ConvertedFrom | None = None
    """The topology of the checkpoint, if it was converted to another one."""


@record
class StartTimed(AttemptEvent):
    """The first step is complete; records the seconds of each phase of the start."""

    event = "start"
    restart: int
    seconds: Mapping[Phase, float]
    total_s: float


@record
class Compiled(AttemptEvent):
    """torch.compile compiled layers; the counts are totals so far."""

    event = "compiled"
    step: int
    layers: int
    graphs: int
    graph_breaks: Mapping[str, int]
    """Number of graph breaks by reason."""
    left_to_python: Mapping[str, int]
    """Number of frames that run in Python, by reason."""
    seconds: float


@record
class Validated(Scores, AttemptEvent):
    """The validation set was scored."""

    event = "validation"
    step: int
    best: bool
    """Whether the loss is the best so far."""


@record
class CheckpointSaved(AttemptEvent):
    """A checkpoint was published."""

    event = "checkpoint"
    step: int
    bytes: int
    seconds: float
    """Seconds from the copy of the states to the published checkpoint."""
    stall_s: float = 0.0
    """Seconds for which training was blocked; defaults to 0 for older journals."""
    dropped: Sequence[int] = ()
    """Steps of older checkpoints that were deleted."""


@record
class SaveFailed(AttemptEvent):
    """A checkpoint could not be written; training continued."""

    event = "save_failed"
    renamed = _WHY
    step: int
    reason: str
    in_a_row: int


@record
class ShortNotice(AttemptEvent):
    """The notice before a kill is shorter than a step and a save."""

    event = "short_notice"
    needed_s: float
    notice_s: float


@record
class BadStep(AttemptEvent):
    """A step was skipped, or its loss was far above the mean."""

    event = "bad_step"
    step: int
    kind: Literal["skipped", "spike"]
    reason: str


@record
class RolledBack(AttemptEvent):
    """Training returned to a checkpoint and skips the batches that led to bad steps."""

    event = "rollback"
    step: int
    to_step: int
    skipped: tuple[int, int]
    """Numbers of the first and the last skipped batch."""
    reason: str


@record
class TrackingFailed(AttemptEvent):
    """Weights & Biases lacks some metrics; metrics.jsonl is complete."""

    event = "tracking"
    renamed = _WHY
    reason: str


@record
class Profiled(AttemptEvent):
    """A profile was written."""

    event = "profile"
    step: int
    """The last profiled step."""
    file: str


@record
class ProfileFailed(AttemptEvent):
    """A profile could not be written."""

    event = "profile_failed"
    renamed = _WHY
    reason: str


@record
class Trained(StepTimes, AttemptEvent):
    """Training in this attempt ended; records the times since the last row of metrics."""

    event = "trained"
    step: int


@record
class EndedEarly(AttemptEvent):
    """The run finished before its last step."""

    event = "ended_early"
    step: int
    reason: str


@record
class Preempted(AttemptEvent):
    """The run saved a checkpoint and stopped."""

    event = "preempted"
    step: int
    reason: str
    """The cause: a signal, `shardline stop` or `sweep.halving`."""


@record
class Crashed(AttemptEvent):
    """A rank or a node failed."""

    event = "crashed"
    failure_class: FailureClass
    rank: int
    """The failed rank; -1 for a failure of the node."""
    host: str
    reason: str
    then: Then
    """The next action: restart the ranks in place, requeue the job, or stop as failed."""


@record
class RunFinished(AttemptEvent):
    """The run is complete and result.json is written."""

    event = "finished"
    step: int

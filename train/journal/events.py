"""Every kind of event in a run's journal, in the order in which a run meets them.

The names of kinds and fields are an API: they stay. A field that is added later needs a default for the
journals written before, and `renamed` maps a field that had another name. The frozen code of a run reads what
today's commands write into its journal (`submitted`, `changed`, `cancelled`): those three stay as they are.
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
    """The job's name under Slurm."""
    host: str | None = None
    """The machine, for a job that Slurm does not run."""


@record
class Changed(RunEvent):
    """The config or the versions differ from those that the run had before."""

    event = "changed"
    keys: Sequence[str]
    """Each as text: the key, both values, and what follows."""
    insisted: Sequence[str]
    """Keys that --allow-change named."""


@record
class Cancelled(RunEvent):
    """The user cancelled the run."""

    event = "cancelled"
    job_id: str | None


@record
class Superseded(RunEvent):
    """A job of an earlier submission started and ended at once."""

    event = "superseded"
    job_id: str


@record
class AskedToStop(RunEvent):
    """A node agent was asked to save and stop."""

    event = "asked_to_stop"
    renamed = _BY
    reason: str
    """The signal."""
    pid: int


@record
class Requeued(RunEvent):
    """The job was about to go back into Slurm's queue."""

    event = "requeued"
    job_id: str
    without: Sequence[str]
    """Nodes that are left out from now on."""


@record
class RequeueFailed(RunEvent):
    """Slurm did not take the job back; the run failed."""

    event = "requeue_failed"
    job_id: str
    reason: str


@record
class GaveUp(RunEvent):
    """Too many attempts in a row made no checkpoint; the run failed."""

    event = "gave_up"
    reason: str


@record
class AttemptEvent(RunEvent):
    """An event that belongs to one attempt."""

    attempt: int
    """From 1; each start of the job is one."""


@record
class AttemptBegun(AttemptEvent):
    """The job started on its nodes."""

    event = "attempt"
    job_id: str
    nodes: str | None
    """As Slurm writes them; None without Slurm."""


@record
class FaultsInjected(AttemptEvent):
    """Faults are injected on purpose."""

    event = "faults"
    wanted: str


@record
class PhaseBegun(AttemptEvent):
    """A phase of the run began."""

    event = "phase"
    phase: Phase

    @classmethod
    def upgraded(cls, row: Row) -> Row:
        """The phase `load best step N` of early versions is part of `save` today."""
        early = str(row.get("phase")).startswith(_LOAD_BEST)
        return {**row, "phase": Phase.SAVE.value} if early else row


@record
class KernelsChosen(AttemptEvent):
    """The kernels that are used, after each was compared with its reference."""

    event = "kernels"
    engaged: Mapping[str, KernelUse]


@record
class Started(AttemptEvent):
    """The ranks are up."""

    event = "started"
    world_size: int
    total_steps: int
    restart: int = 0
    """How often the ranks were restarted in this attempt before; 0 in journals that do not have it."""
    start_method: Literal["fork", "spawn"] = "spawn"
    """How this node's ranks were started (`train.start_method`); journals from before there was a choice do
    not have it."""


@record
class DataPrepared(DataReport, AttemptEvent):
    """What became of the training rows; written once for all attempts."""

    event = "data"


@record
class SkippedCheckpoints(AttemptEvent):
    """Checkpoints that could not be used."""

    event = "skipped_checkpoints"
    renamed = _WHY
    reason: str
    """Each checkpoint with what is wrong with it."""

    @classmethod
    def upgraded(cls, row: Row) -> Row:
        """Earlier versions wrote a list."""
        new = {**super().upgraded(row)}
        if isinstance(new.get("reason"), list):
            new["reason"] = "; ".join(map(str, new["reason"]))
        return new


@record
class TrainingResumed(AttemptEvent):
    """The training continues from a checkpoint."""

    event = "resumed"
    step: int
    converted_from: ConvertedFrom | None = None
    """Set where the checkpoint was converted for another number of ranks or other settings."""


@record
class StartTimed(AttemptEvent):
    """The first step was made: the seconds of each phase of the start."""

    event = "start"
    restart: int
    seconds: Mapping[Phase, float]
    total_s: float


@record
class Compiled(AttemptEvent):
    """What torch.compile made of the layers so far."""

    event = "compiled"
    step: int
    layers: int
    graphs: int
    graph_breaks: Mapping[str, int]
    """Count by reason."""
    left_to_python: Mapping[str, int]
    """Count by reason."""
    seconds: float


@record
class Validated(Scores, AttemptEvent):
    """The validation set was scored."""

    event = "validation"
    step: int
    best: bool
    """Whether it is the best so far."""


@record
class CheckpointSaved(AttemptEvent):
    """A checkpoint was published."""

    event = "checkpoint"
    step: int
    bytes: int
    seconds: float
    """From the copy of the states to the published checkpoint."""
    stall_s: float = 0.0
    """How long the training waited; 0 in journals that do not have it."""
    dropped: Sequence[int] = ()
    """Steps of older checkpoints that were deleted."""


@record
class SaveFailed(AttemptEvent):
    """A checkpoint could not be written; the training continued."""

    event = "save_failed"
    renamed = _WHY
    step: int
    reason: str
    in_a_row: int


@record
class ShortNotice(AttemptEvent):
    """A stop is announced too late for a step and a save."""

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
    """The training returned to a checkpoint and left out the batches that went bad."""

    event = "rollback"
    step: int
    to_step: int
    skipped: tuple[int, int]
    """Numbers of the first and the last batch that are left out."""
    reason: str


@record
class TrackingFailed(AttemptEvent):
    """Weights & Biases has not got everything; metrics.jsonl has."""

    event = "tracking"
    renamed = _WHY
    reason: str


@record
class Profiled(AttemptEvent):
    """A profile was written."""

    event = "profile"
    step: int
    """The last one that it shows."""
    file: str


@record
class ProfileFailed(AttemptEvent):
    """A profile could not be written."""

    event = "profile_failed"
    renamed = _WHY
    reason: str


@record
class Trained(StepTimes, AttemptEvent):
    """The training of an attempt ended: the times since the last row of metrics."""

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
    """The run saved and stopped."""

    event = "preempted"
    step: int
    reason: str
    """A signal, `shardline stop`, or `sweep.halving`."""


@record
class Crashed(AttemptEvent):
    """A rank or a node failed."""

    event = "crashed"
    failure_class: FailureClass
    rank: int
    """-1 where it was no rank."""
    host: str
    reason: str
    then: Then
    """What follows: the ranks are restarted in place, the job is requeued, or the run has failed."""


@record
class RunFinished(AttemptEvent):
    """The run is complete; result.json is there."""

    event = "finished"
    step: int

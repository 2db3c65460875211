"""Groups of fields that events share with other records."""

from typing import Literal

from train.records.base import Record, record

_WHY = {"why": "reason"}


@record
class DataReport(Record):
    """How the training rows are used."""

    rows: int
    overlong: Literal["truncate", "split", "drop", "cut"]
    """The policy for rows with more than data.max_length tokens."""
    overlong_rows: int
    documents: int
    sequences: int
    tokens: int
    """Number of tokens of all documents."""
    fill: float | None
    """Share of tokens in the packs that are not padding; None without packing."""


@record
class Scores(Record):
    """The scores of a set. Losses are in nats."""

    rows: int
    tokens: int
    """Number of trained tokens (decoders) or rows (classification) that the loss is averaged over."""
    loss: float
    perplexity: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None


@record
class StepTimes(Record):
    """Seconds of rank 0 since the previous report, by use."""

    time_data_s: float = 0.0
    """Seconds of collating data; like the next three, 0 in rows of versions that did not measure it."""
    time_forward_s: float = 0.0
    time_backward_s: float = 0.0
    time_step_s: float = 0.0
    time_save_s: float | None = None
    """Seconds for which a save blocked training; absent if none did."""
    time_evaluate_s: float | None = None
    """Seconds for which validation blocked training; absent if none did."""

    @property
    def in_steps_s(self) -> float:
        """Seconds within steps."""
        return self.time_data_s + self.time_forward_s + self.time_backward_s + self.time_step_s


@record
class KernelUse(Record):
    """The implementation of a kernel that is used."""

    renamed = _WHY

    name: str
    reason: str
    """Why this implementation was chosen, and not another."""


@record
class ConvertedFrom(Record):
    """The topology of a checkpoint that was converted for the resumed run."""

    world_size: int
    zero_stage: int
    precision: str

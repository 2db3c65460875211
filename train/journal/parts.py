"""Groups of fields that events share with other records."""

from typing import Literal

from train.records.base import Record, record

_WHY = {"why": "reason"}


@record
class DataReport(Record):
    """What became of the training rows."""

    rows: int
    overlong: Literal["truncate", "split", "drop", "cut"]
    """What is done with rows of more than data.max_length tokens."""
    overlong_rows: int
    documents: int
    sequences: int
    tokens: int
    """Of all documents."""
    fill: float | None
    """Share of the packs that is not padding; None without packing."""


@record
class Scores(Record):
    """What a set scored. Losses are in nats."""

    rows: int
    tokens: int
    """Trained tokens (decoders) or rows (classification) that the loss is a mean of."""
    loss: float
    perplexity: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None


@record
class StepTimes(Record):
    """Seconds of rank 0 since the report before, by what they went into."""

    time_data_s: float = 0.0
    """Of this and the next three: 0 in rows written before they were measured."""
    time_forward_s: float = 0.0
    time_backward_s: float = 0.0
    time_step_s: float = 0.0
    time_save_s: float | None = None
    """How long the training waited for a save; absent if it did not."""
    time_evaluate_s: float | None = None
    """How long the training waited for a validation; absent if it did not."""

    @property
    def in_steps_s(self) -> float:
        """Seconds in the steps themselves."""
        return self.time_data_s + self.time_forward_s + self.time_backward_s + self.time_step_s


@record
class KernelUse(Record):
    """Which implementation of a kernel is used."""

    renamed = _WHY

    name: str
    reason: str
    """Why this one, and why no other."""


@record
class ConvertedFrom(Record):
    """The ranks and settings that a checkpoint was saved with, where those of the resumed run differ."""

    world_size: int
    zero_stage: int
    precision: str

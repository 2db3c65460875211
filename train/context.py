"""What a rank holds while it trains."""

from dataclasses import dataclass
from typing import Any

from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.data.collate import TokenSet
from train.data.sampler import Sampler
from train.data.sequences import Sequences
from train.dist import Group
from train.engine.engine import Engine
from train.faults import Faults
from train.job import TrainJob
from train.journal.parts import DataReport
from train.journal.phases import Phase
from train.measure.phases import Announcer
from train.measure.tracking import Tracker
from train.model.compiling import CompilationJournal
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RankContext:
    """The parts that the loop, the assessment and the end of a run work with."""

    job: TrainJob
    attempt: int
    group: Group
    engine: Engine
    tokenizer: Any
    sets: dict[str, TokenSet]
    """By role: train, held_out, validation, test, general."""
    sequences: Sequences
    """The training set as it is trained."""
    report: DataReport
    sampler: Sampler
    saver: Saver
    restorer: Restorer
    stop: StopRequest
    heart: Heartbeat
    faults: Faults
    tracker: Tracker | None
    """On rank 0."""
    announcer: Announcer
    compilation: CompilationJournal | None
    """On rank 0, with model.compile."""

    @property
    def is_main(self) -> bool:
        """Rank 0 writes what concerns the whole run."""
        return self.group.env.is_main

    @property
    def causal(self) -> bool:
        """Whether the model predicts tokens rather than classes."""
        return self.job.config.model.task == "causal"

    def announce(self, phase: Phase) -> None:
        """Journal what the run does now, for people and for the watchdog."""
        self.announcer.begin(phase)

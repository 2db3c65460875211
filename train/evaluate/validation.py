"""The validation loss, which selects the best checkpoint and ends training without improvement."""

from dataclasses import asdict, dataclass

from train.checkpoint.progress import Progress
from train.data.collate import TokenSet
from train.dist import Group
from train.engine.engine import Engine
from train.evaluate.scores import evaluate
from train.faults import Faults
from train.journal.events import Validated
from train.measure.tracking import Tracker
from train.node.heartbeat import Heartbeat
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Scores the validation set during training."""

    engine: Engine
    rows: TokenSet | None
    """The validation set; None if the config has none."""
    group: Group
    batch_size: int
    causal: bool
    """Whether the model predicts tokens rather than classes."""
    run_dir: RunDir
    attempt: int
    tracker: Tracker | None
    """Set on rank 0 only."""
    heart: Heartbeat
    faults: Faults

    def validate(self, progress: Progress) -> bool:
        """Score the validation set; returns whether the loss is the best so far. Collective."""
        if self.rows is None:
            return False
        self.heart.beat("validation")
        self.faults.hit("evaluation")
        scores = evaluate(self.engine, self.rows, self.group, self.batch_size, causal=self.causal)
        improved = progress.note_validation(scores.loss)
        if self.group.env.is_main:
            values = {key: value for key, value in asdict(scores).items() if value is not None}
            self.run_dir.log(Validated(attempt=self.attempt, step=progress.step, best=improved, **values))
            if self.tracker:
                self.tracker.log_values("validation", values, progress.step)
        return improved

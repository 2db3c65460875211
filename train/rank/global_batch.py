"""One global batch: the gradients of its micro-batches, then one optimizer step."""

from dataclasses import dataclass

import torch

from train.batch import BatchPlan
from train.config import OptimConfig
from train.data.sampler import Sampler, assign_micro_batches
from train.data.sequences import Sequences
from train.dist import DistEnv
from train.engine.engine import Engine
from train.faults import Faults
from train.model.optim import learning_rate
from train.node.heartbeat import Heartbeat
from train.observer import StepDone, StepSize
from train.rank.meter import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTrainer:
    """Trains global batches, which are equal for any number of ranks, micro-batches or attempts."""

    engine: Engine
    sampler: Sampler
    sequences: Sequences
    batch: BatchPlan
    optim: OptimConfig
    seed: int
    env: DistEnv
    meter: Meter
    """Measures the parts of each step."""
    heart: Heartbeat
    faults: Faults

    def train(self, step: int, number: int) -> StepDone:
        """Train one global batch.

        Args:
            step: The step, counted from 1; determines the learning rate and the dropout.
            number: The global batch to use; differs from `step` once batches have been skipped.

        Returns:
            The samples and sizes of the step, and whether the weights were updated.
        """
        self._seed_dropout(step)
        chosen = self.sampler.batch(step, number)
        size = StepSize(
            tokens=int(self.sequences.tokens[chosen].sum()),
            trained=int(self.sequences.trained_tokens[chosen].sum()),
            pairs=int(self.sequences.pairs[chosen].sum()),
        )
        sample_ids = self.sequences.documents(chosen)
        self._accumulate(chosen, size.trained)
        self.heart.tick("optimizer step")
        self.meter.enter("step")
        self.faults.hit("step")
        applied = self.engine.step(learning_rate(self.optim, step, self.sampler.total_steps))
        self.heart.warm = True
        return StepDone(step=step, sample_ids=sample_ids, size=size, applied=applied)

    def _accumulate(self, chosen: list[int], trained: int) -> None:
        """Accumulate the gradients of this rank's share of one global batch."""
        micro_batches = assign_micro_batches(chosen, self.sequences.tokens, self.batch, self.env.rank)
        for number, micro_batch in enumerate(micro_batches, 1):
            self.heart.tick("forward")
            self.meter.enter("data")
            self.faults.hit("data")
            batch = self.sequences.collate(micro_batch, self.env.device)
            self.meter.enter("forward")
            self.faults.hit("forward")
            loss_sum = self.engine.loss_sum(batch)
            self.heart.tick("backward")
            self.meter.enter("backward")
            spoilt = float("nan") if self.faults.hit("backward") else 1.0
            self.engine.backward(loss_sum * spoilt, trained)
            self.meter.add(loss_sum)
            if number < len(micro_batches):
                self.engine.micro_step()

    def _seed_dropout(self, step: int) -> None:
        """Seed the generator from seed, step and rank, so that a checkpoint needs no generator state."""
        seed = (self.seed * 1_000_003 + step) * 65_537 + self.env.rank
        torch.manual_seed(seed % 2**63)

"""One global batch: gradients of its micro-batches, then one step of the optimizer. Training only."""

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
    """Trains global batches: the same documents, order, rate and dropout for any ranks and attempt."""

    engine: Engine
    sampler: Sampler
    sequences: Sequences
    batch: BatchPlan
    optim: OptimConfig
    seed: int
    env: DistEnv
    meter: Meter
    """Its clock is moved from part to part of the step."""
    heart: Heartbeat
    faults: Faults

    def train(self, step: int, number: int) -> StepDone:
        """Make one step.

        Args:
            step: Counted from 1; decides the learning rate and the dropout.
            number: The global batch to take; another than `step` after batches were left out.
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
        """Gradients of one global batch, this rank's share."""
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
        """Random numbers are a function of seed, step and rank, so there is no state to lose."""
        seed = (self.seed * 1_000_003 + step) * 65_537 + self.env.rank
        torch.manual_seed(seed % 2**63)

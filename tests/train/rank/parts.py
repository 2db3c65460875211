"""A training without a model: every part of the loop that a test does not look at, in its simplest form."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from train.batch import solve_batch
from train.checkpoint.progress import Progress, Resumed
from train.checkpoint.schedule import SaveSchedule
from train.config import CheckpointConfig, EvalConfig, OptimConfig, TrainConfig
from train.data.sampler import Order, Sampler
from train.faults import NO_FAULTS
from train.measure.phases import PhaseTimer
from train.metrics import MetricsRow
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest
from train.observer import StepObserver
from train.rank.checkpointing import Checkpointing
from train.rank.global_batch import BatchTrainer
from train.rank.loop import LoopParts
from train.rank.meter import Meter
from train.rank.stop_notice import PreemptionNotice
from train.rank_environment import RankStart
from train.rundir import RunDir

ENV: Any = SimpleNamespace(rank=0, world_size=1, is_main=True, device=torch.device("cpu"))


class OneRank:
    """Collectives of a process group of one."""

    env = ENV

    def any(self, *flags: bool) -> list[bool]:
        return list(flags)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_numbers(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values)]

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def from_main(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        pass


@dataclass
class FakeEngine:
    """Counts what it is asked for; `bad_batches` have gradients that are not finite."""

    losses: dict[int, float] = field(default_factory=dict)
    """By step; 2.0 where none is given."""
    bad_batches: set[int] = field(default_factory=set)
    step_count: int = 0
    batches: list[list[int]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    micro_steps: int = 0

    def loss_sum(self, batch: list[int]) -> torch.Tensor:
        self.batches.append(batch)
        return torch.tensor(self.losses.get(self.step_count + 1, 2.0) * len(batch))

    def backward(self, loss_sum: torch.Tensor, trained: int) -> None:
        assert trained > 0

    def micro_step(self) -> None:
        self.micro_steps += 1

    def step(self, lr: float) -> bool:
        self.rates.append(lr)
        self.step_count += 1
        return not self.bad_batches & set(self.batches[-1])

    def current_lr(self) -> float:
        return self.rates[-1]

    def gradient_norm(self) -> float:
        return 1.0


class Sequences:
    """Documents of one token each, numbered from 0."""

    def __init__(self, count: int) -> None:
        self.tokens = self.trained_tokens = self.pairs = np.ones(count, dtype=np.int64)

    def documents(self, sequences: Sequence[int]) -> list[int]:
        return list(sequences)

    def collate(self, sequences: Sequence[int], device: torch.device) -> list[int]:
        return list(sequences)


class MemoryCheckpoints:
    """Saver and restorer in one: progress is kept in memory."""

    longest_save_s = 0.0

    def __init__(self, found: Resumed | None = None) -> None:
        self.found = found or Resumed(Progress())
        self.saved: list[int] = []

    def save(self, engine: FakeEngine, progress: Progress) -> float:
        self.saved.append(progress.step)
        self.found = Resumed(replace(progress))
        return 0.0

    def join(self) -> None:
        pass

    def resume(self, engine: FakeEngine) -> Resumed:
        engine.step_count = self.found.progress.step
        return Resumed(replace(self.found.progress), self.found.converted_from)


class Tracker:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.rows: list[MetricsRow] = []
        self.validations: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def log_step(self, row: MetricsRow) -> None:
        self.rows.append(row)

    def log_values(self, prefix: str, values: dict[str, float], step: int) -> None:
        self.validations.append({"prefix": prefix, "step": step, **values})

    def close(self, summary: dict[str, Any]) -> None:
        self.summary = summary


class ScriptedValidation:
    """Validation losses in the order in which they are asked for."""

    def __init__(self, *losses: float) -> None:
        self._losses = iter(losses)
        self.steps: list[int] = []

    def validate(self, progress: Progress) -> bool:
        self.steps.append(progress.step)
        return progress.note_validation(next(self._losses, 9.9))


class Bench:
    """One rank's loop on fakes, in a run directory of its own."""

    def __init__(
        self,
        root: Path,
        *,
        train: dict[str, Any] | None = None,
        evaluate: dict[str, Any] | None = None,
        checkpoint: dict[str, Any] | None = None,
        found: Resumed | None = None,
        observers: Sequence[StepObserver] = (),
        steps: int = 4,
        batch_size: int = 2,
        documents: int | None = None,
    ) -> None:
        (root / "logs").mkdir()
        self.run_dir = RunDir(root)
        self.engine = FakeEngine()
        self.checkpoints = MemoryCheckpoints(found)
        self.tracker = Tracker()
        self.validation = ScriptedValidation()
        self.stop = StopRequest()
        self.group: Any = OneRank()
        self.heart = Heartbeat(root / "logs", 0)
        engine: Any = self.engine
        sequences: Any = Sequences(documents or steps * batch_size)
        saver: Any = self.checkpoints
        tracker: Any = self.tracker
        validation: Any = self.validation
        config: Any = SimpleNamespace(
            train=TrainConfig(global_batch_size=batch_size, max_steps=steps, **(train or {})),
            eval=EvalConfig(base=False, **(evaluate or {})),
        )
        self.meter = Meter(engine, self.group, tracker, attempt=1, speed=None)
        self.phases = PhaseTimer(self.run_dir, self.heart, RankStart(), main=True)
        order = Order(sequences.tokens, seed=0)
        self.parts = LoopParts(
            config=config,
            run_dir=self.run_dir,
            attempt=1,
            group=self.group,
            trainer=BatchTrainer(
                engine=engine,
                sampler=Sampler(order, batch_size, steps * batch_size),
                sequences=sequences,
                batch=solve_batch(global_batch_size=batch_size, micro_batch_size=1, world_size=1),
                optim=OptimConfig(lr=1.0, schedule="constant"),
                seed=7,
                env=ENV,
                meter=self.meter,
                heart=self.heart,
                faults=NO_FAULTS,
            ),
            observers=(*observers, self.meter),
            meter=self.meter,
            checkpoints=Checkpointing(
                engine=engine,
                saver=saver,
                restorer=saver,
                schedule=SaveSchedule(CheckpointConfig(**(checkpoint or {})), self.run_dir.save_request),
                notice=PreemptionNotice(self.run_dir, attempt=1, main=True, notice_s=None),
                meter=self.meter,
                heart=self.heart,
            ),
            validation=validation,
            phases=self.phases,
            stop=self.stop,
            heart=self.heart,
            tracker=tracker,
        )

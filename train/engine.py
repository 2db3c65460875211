"""DeepSpeed behind five verbs: loss, backward, step, save, load.

Shape legend: B rows, T tokens, V vocabulary or classes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from train.data.collate import Batch
from train.loss import class_loss_sum

_TAG = "shards"
"""Name of DeepSpeed's directory inside ours."""


class Engine:
    """A model under ZeRO. Every method but `module` is collective: all ranks call it together."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        config: dict[str, Any],
        *,
        causal: bool,
        world_size: int,
    ) -> None:
        """Shard the model as the config says."""
        self._causal = causal
        self._world_size = world_size
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=config
        )
        self._own_norm: torch.Tensor | None = None
        self._writer = _RecordingWriter()
        self._engine.checkpoint_engine = self._writer

    @property
    def module(self) -> torch.nn.Module:
        """The model; under ZeRO-3 its parameters are shards."""
        module: torch.nn.Module = self._engine.module
        return module

    def logits(self, batch: Batch) -> torch.Tensor:
        """Class scores, BV."""
        output = self._engine(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT)
        logits: torch.Tensor = output.logits
        return logits

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum of the loss over what is trained in this rank's rows, fp32 scalar."""
        if not self._causal:
            return class_loss_sum(self.logits(batch), batch.labels)
        loss: torch.Tensor = self._engine(
            input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=batch.labels
        )
        return loss

    def backward(self, loss_sum: torch.Tensor, trained: int) -> None:
        """Add to the gradients of `total loss / trained`, `trained` counted over the whole global batch.

        DeepSpeed averages gradients over ranks; multiplying by their number makes it a sum again.
        """
        self._engine.backward(loss_sum * (self._world_size / trained), scale_wrt_gas=False)

    def micro_step(self) -> None:
        """Count a micro-step before the boundary; updates nothing."""
        self._engine.step()

    def step(self, lr: float) -> None:
        """Update the weights at this learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        # Plain stage 0 in fp32 is the one engine that clips without telling the norm.
        self._own_norm = self._plain_gradient_norm()
        self._engine.step()

    def gradient_norm(self) -> float:
        """Global norm of the last step's gradients before clipping; waits for the device."""
        norm = self._own_norm if self._own_norm is not None else self._engine.get_global_grad_norm()
        return float(norm if norm is not None else float("nan"))

    def current_lr(self) -> float:
        """The rate that the optimizer really holds."""
        return float(self._optimizer.param_groups[0]["lr"])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """No dropout, no gradients."""
        self._engine.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._engine.train()

    def save(self, directory: Path, state: dict[str, Any]) -> list[Path]:
        """Write all shards into a directory, durably.

        Returns:
            The files that this rank wrote.
        """
        self._writer.written.clear()
        self._engine.save_checkpoint(str(directory), tag=_TAG, client_state=state)
        return list(self._writer.written)

    def load(self, directory: Path) -> dict[str, Any]:
        """Read model, optimizer and counters back; returns the state given to `save`."""
        path, state = self._engine.load_checkpoint(str(directory), tag=_TAG)
        if path is None:
            raise RuntimeError(f"DeepSpeed found no checkpoint in {directory}")
        return dict(state)

    def full_state_dict(self) -> dict[str, torch.Tensor] | None:
        """All weights in the training dtype, on rank 0; None elsewhere under ZeRO-3."""
        if self._engine.zero_optimization_stage() == 3:
            gathered: dict[str, torch.Tensor] | None = self._engine._zero3_consolidated_16bit_state_dict()
            return gathered
        return dict(self.module.state_dict())

    def _plain_gradient_norm(self) -> torch.Tensor | None:
        if isinstance(self._engine.optimizer, torch.optim.Optimizer):
            grads = [p.grad for p in self.module.parameters() if p.grad is not None]
            return torch.nn.utils.get_total_norm(grads)
        return None


class _RecordingWriter(TorchCheckpointEngine):  # type: ignore[misc]
    """DeepSpeed's writer that also makes each file durable and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.zipfile_serialization = True
        self.written: list[Path] = []

    def save(self, state_dict: Any, path: str) -> None:
        """Write one file and wait until it is on disk."""
        with Path(path).open("wb") as file:
            torch.save(state_dict, file)
            file.flush()
            os.fsync(file.fileno())
        self.written.append(Path(path))

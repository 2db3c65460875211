"""A wrapper of the DeepSpeed engine: loss, backward, step, save and load.

Shape legend: B rows, T tokens, V vocabulary or classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from train.data.collate import Batch
from train.engine.host_copy import HostCopy, PendingFile
from train.engine.muon import import_muon_uncompiled
from train.engine.universal import CONVERTIBLE, OPTIMIZER_ORDER, load_universal
from train.kernels.adamw import adopt_states
from train.model.compiling import uncompiled
from train.model.loss import class_loss_sum

SHARDS = "shards"
"""Name of DeepSpeed's directory inside a checkpoint."""


class Engine:
    """A model under ZeRO. All methods except `module` are collective."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        config: dict[str, Any],
        *,
        causal: bool,
        compiled: bool = False,
        world_size: int,
    ) -> None:
        """Shard the model according to DeepSpeed's config.

        Args:
            model: The model.
            optimizer: Its optimizer.
            config: DeepSpeed's config.
            causal: Whether the model is a decoder, which computes its loss itself.
            compiled: Whether the layers are compiled.
            world_size: Number of ranks.
        """
        self._causal = causal
        self._compiled = compiled
        self._world_size = world_size
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._optimizer_order = [
            names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]
        ]
        import_muon_uncompiled()
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=config
        )
        # transformers loads models in evaluation mode, without dropout and activation checkpointing.
        self._engine.train()
        self._own_norm: torch.Tensor | None = None
        self._copies = _CopyingWriter(pinned=torch.cuda.is_available())
        self._engine.checkpoint_engine = self._copies

    @property
    def module(self) -> torch.nn.Module:
        """The model; under ZeRO-3 its parameters are shards."""
        module: torch.nn.Module = self._engine.module
        return module

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return class scores, BV."""
        output = self._engine(**batch.inputs)
        logits: torch.Tensor = output.logits
        return logits

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the loss over the trained tokens or rows of this rank's batch, an fp32 scalar."""
        if not self._causal:
            return class_loss_sum(self.logits(batch), batch.labels)
        loss: torch.Tensor = self._engine(
            **batch.inputs, labels=batch.labels, target_positions=batch.target_positions_N
        )
        return loss

    def row_losses(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the loss over the trained tokens of each row of a decoder's batch, B, fp32."""
        losses: torch.Tensor = self._engine(
            **batch.inputs, labels=batch.labels, target_positions=batch.target_positions_N, each_row=True
        )
        return losses

    def backward(self, loss_sum: torch.Tensor, trained: int) -> None:
        """Add the gradients of `loss_sum / trained`.

        DeepSpeed averages gradients over ranks; multiplying by the number of ranks makes the average a sum.

        Args:
            loss_sum: Loss of this rank's micro-batch.
            trained: Number of trained tokens or rows in the global batch.
        """
        self._engine.backward(loss_sum * (self._world_size / trained), scale_wrt_gas=False)

    def micro_step(self) -> None:
        """Finish a micro-step before the last one of a step, which does not update the weights."""
        self._engine.step()

    def step(self, lr: float) -> bool:
        """Update the weights at this learning rate.

        Returns:
            Whether the weights were updated. If a gradient is not finite on any rank, no rank is updated.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        # Stage 0 in fp32 is the only engine that clips without providing the norm.
        self._own_norm = self._unsharded_gradient_norm()
        finite = self._own_norm is None or math.isfinite(float(self._own_norm))
        if not finite:
            # AdamW skips parameters without a gradient.
            for parameter in self.module.parameters():
                parameter.grad = None
        self._engine.step()
        return finite and not getattr(self._engine.optimizer, "overflow", False)

    def gradient_norm(self) -> float:
        """Return the global norm of the last step's gradients before clipping; waits for the device."""
        norm = self._own_norm if self._own_norm is not None else self._engine.get_global_grad_norm()
        return float(norm if norm is not None else float("nan"))

    def current_lr(self) -> float:
        """Return the learning rate in the optimizer."""
        return float(self._optimizer.param_groups[0]["lr"])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Disable dropout, gradients and compiled layers, so that scores do not depend on compilation."""
        self._engine.eval()
        try:
            with torch.no_grad(), uncompiled() if self._compiled else nullcontext():
                yield
        finally:
            self._engine.train()

    def copy_states(self, directory: Path) -> list[PendingFile]:
        """Copy the states that this rank saves to a directory; training can continue when it returns."""
        order = {OPTIMIZER_ORDER: self._optimizer_order}
        self._engine.save_checkpoint(
            str(directory), tag=SHARDS, client_state={**order, **CONVERTIBLE}, save_latest=False
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._copies.take_pending()

    @property
    def copy_bytes(self) -> int:
        """Host memory of the copies for saving on this rank, in bytes."""
        return self._copies.nbytes

    def load(self, directory: Path) -> None:
        """Load model and optimizer from a checkpoint with the same number of ranks, stage and precision.

        Raises:
            RuntimeError: The directory has no checkpoint.
        """
        path, _ = self._engine.load_checkpoint(str(directory), tag=SHARDS)
        if path is None:
            raise RuntimeError(f"no DeepSpeed checkpoint found in {directory}")
        adopt_states(self._inner_optimizer())

    def load_universal(self, directory: Path, optimizer_step: float) -> None:
        """Read states that were converted (`train/engine/universal.py`)."""
        load_universal(self._engine, directory, optimizer_step)
        adopt_states(self._inner_optimizer())

    def optimizer_step(self) -> float:
        """Return AdamW's count of applied steps, which determines its bias correction."""
        states = self._inner_optimizer().state.values()
        return next((float(state["step"]) for state in states if "step" in state), 0.0)

    def full_state_dict(self) -> dict[str, torch.Tensor] | None:
        """Return all weights in the training dtype; under ZeRO-3 only on rank 0, and None on other ranks."""
        if self._engine.zero_optimization_stage() == 3:
            gathered: dict[str, torch.Tensor] | None = self._engine._zero3_consolidated_16bit_state_dict()
            return gathered
        return dict(self.module.state_dict())

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW without DeepSpeed's wrapper."""
        inner: torch.optim.Optimizer = getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)
        return inner

    def _unsharded_gradient_norm(self) -> torch.Tensor | None:
        if isinstance(self._engine.optimizer, torch.optim.Optimizer):
            grads = [p.grad for p in self.module.parameters() if p.grad is not None]
            return torch.nn.utils.get_total_norm(grads)
        return None


class _CopyingWriter(TorchCheckpointEngine):  # type: ignore[misc]
    """A checkpoint writer for DeepSpeed that only copies the states; they are written to disk later."""

    def __init__(self, *, pinned: bool) -> None:
        super().__init__()
        self.zipfile_serialization = True
        self._copy = HostCopy(pinned=pinned)
        self._pending: list[PendingFile] = []

    @property
    def nbytes(self) -> int:
        """Total size of the buffers, in bytes."""
        return self._copy.nbytes

    def save(self, state_dict: Any, path: str) -> None:
        """Copy the content of one file."""
        self._pending.append(PendingFile(Path(path), self._copy.take(Path(path).name, state_dict)))

    def take_pending(self) -> list[PendingFile]:
        """Return the files that were copied since the last call."""
        pending, self._pending = self._pending, []
        return pending

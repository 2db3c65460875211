"""Copies of a rank's states in host memory: what a save waits for. The buffers are made once."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class HostCopy:
    """Keeps one buffer per tensor of a state, by its place in the traversal."""

    def __init__(self, *, pinned: bool) -> None:
        """Pinned buffers let a GPU copy without the CPU's help."""
        self._pinned = pinned
        self._buffers: dict[str, torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers: one copy of what this rank saves."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def take(self, name: str, state: Any) -> Any:
        """A copy of nested containers that shares nothing with the original.

        Args:
            name: Tells the states of one save apart: the file's name.
            state: What is saved; tensors that are one stay one.
        """
        return self._copy(name, state, {})

    def _copy(self, place: str, value: Any, seen: dict[tuple[Any, ...], torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(place, value, seen)
        if isinstance(value, dict):
            items = ((key, self._copy(f"{place}/{key}", entry, seen)) for key, entry in value.items())
            return type(value)(items) if type(value) is not dict else dict(items)
        if isinstance(value, list):
            return [self._copy(f"{place}/{number}", entry, seen) for number, entry in enumerate(value)]
        if type(value) is tuple:
            return tuple(self._copy(f"{place}/{number}", entry, seen) for number, entry in enumerate(value))
        return copy.deepcopy(value)

    def _copy_tensor(
        self, place: str, tensor: torch.Tensor, seen: dict[tuple[Any, ...], torch.Tensor]
    ) -> torch.Tensor:
        tensor = tensor.detach()
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and identity in seen:
            return seen[identity]
        buffer = self._buffers.get(place)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._pinned)
            self._buffers[place] = buffer
        buffer.copy_(tensor, non_blocking=self._pinned)
        seen[identity] = buffer
        return buffer


def all_finite(state: Any) -> bool:
    """Whether no floating-point tensor in nested containers holds NaN or infinity."""
    if isinstance(state, torch.Tensor):
        # The sum of a finite tensor is finite in float64, and needs no tensor of its size beside it.
        return not state.is_floating_point() or bool(torch.isfinite(state.sum(dtype=torch.float64)))
    if isinstance(state, dict):
        return all(all_finite(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return all(all_finite(value) for value in state)
    return True


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A state to be written, already out of the training's reach."""

    path: Path
    state: Any

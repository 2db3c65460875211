"""Copies of a rank's states in host memory, in buffers that are allocated once and reused by every save."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class HostCopy:
    """Copies states to buffers, one per tensor, identified by its path in the nested state."""

    def __init__(self, *, pinned: bool) -> None:
        """Create a copier without buffers.

        Args:
            pinned: Whether to use pinned memory, to which a GPU copies asynchronously.
        """
        self._pinned = pinned
        self._buffers: dict[str, torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Total size of the buffers, in bytes."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def take(self, name: str, state: Any) -> Any:
        """Return a copy of nested containers that shares no memory with the original.

        Args:
            name: Name of the file, which is unique within a save.
            state: The state; tensors that share memory also share it in the copy.
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
    """Return whether all floating-point tensors in nested containers are finite."""
    if isinstance(state, torch.Tensor):
        # The sum in float64 is finite if and only if all values are, and needs no temporary tensor.
        return not state.is_floating_point() or bool(torch.isfinite(state.sum(dtype=torch.float64)))
    if isinstance(state, dict):
        return all(all_finite(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return all(all_finite(value) for value in state)
    return True


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A copied state that has not been written yet; training does not change it."""

    path: Path
    state: Any

"""The process group, and the only user of torch.distributed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as torch_dist

from train.failures import NodeFaultError
from train.node.forkserver import LISTENER_VARIABLE

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistEnv:
    """The place of this process among the ranks, from environment variables of the node agent."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @classmethod
    def from_environ(cls, device: Literal["cpu", "cuda"]) -> "DistEnv":
        """Read RANK, LOCAL_RANK and WORLD_SIZE."""
        local_rank = int(os.environ["LOCAL_RANK"])
        return cls(
            rank=int(os.environ["RANK"]),
            local_rank=local_rank,
            world_size=int(os.environ["WORLD_SIZE"]),
            device=torch.device(device, local_rank) if device == "cuda" else torch.device("cpu"),
        )

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which decides for all ranks and writes files and logs."""
        return self.rank == 0


class Group:
    """The collectives of training: data on the device's backend, decisions over gloo."""

    def __init__(self, env: DistEnv, timeout_min: float = 30.0) -> None:
        """Join all ranks in a process group, which DeepSpeed uses too."""
        self.env = env
        timeout = timedelta(minutes=timeout_min)
        if env.device.type == "cuda":
            torch.cuda.set_device(env.device)
        backend = "nccl" if env.device.type == "cuda" else "gloo"
        torch_dist.init_process_group(
            backend,
            store=_store(env, timeout),
            rank=env.rank,
            world_size=env.world_size,
            timeout=timeout,
        )
        _introduce_deepspeed(backend)
        # Decisions do not use the GPU's stream, so that agreeing on a stop never waits for a kernel.
        self._control = torch_dist.new_group(backend="gloo", timeout=timeout)

    def check(self) -> None:
        """Check the connection with a small all-reduce on the ranks' devices.

        Raises:
            NodeFaultError: The sum is wrong.
        """
        value = torch.full((1024,), float(self.env.rank + 1), device=self.env.device)
        torch_dist.all_reduce(value)
        expected = self.env.world_size * (self.env.world_size + 1) / 2
        if not bool((value == expected).all()):
            raise NodeFaultError(f"an all-reduce over {self.env.world_size} ranks returned a wrong sum")

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on at least one rank; the result is equal on all ranks."""
        values = torch.tensor([int(flag) for flag in flags])
        torch_dist.all_reduce(values, op=torch_dist.ReduceOp.MAX, group=self._control)
        return [bool(value) for value in values]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return element-wise sums over all ranks, in float64."""
        total = torch.tensor(values, dtype=torch.float64)
        torch_dist.all_reduce(total, group=self._control)
        return [float(value) for value in total]

    def gather_numbers(self, values: Sequence[float]) -> list[list[float]]:
        """Return the numbers of every rank, in rank order; all ranks must pass equally many."""
        mine = torch.tensor(values, dtype=torch.float64)
        everybodys = [torch.empty_like(mine) for _ in range(self.env.world_size)]
        torch_dist.all_gather(everybodys, mine, group=self._control)
        return [numbers.tolist() for numbers in everybodys]

    def from_main(self, value: T) -> T:
        """Return the value of rank 0 on every rank."""
        box = [value]
        torch_dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in rank order, on every rank."""
        boxes: list[Any] = [None] * self.env.world_size
        torch_dist.all_gather_object(boxes, value, group=self._control)
        return boxes

    def barrier(self) -> None:
        """Wait for all ranks."""
        torch_dist.barrier(group=self._control)

    def close(self) -> None:
        """Destroy the process group, after the last collective."""
        torch_dist.destroy_process_group()


def _store(env: DistEnv, timeout: timedelta) -> torch_dist.TCPStore:  # type: ignore[name-defined]
    """Return the ranks' store, which rank 0 hosts at MASTER_ADDR and MASTER_PORT.

    The node agent already listens at that port, so that no other process can take it. With torchrun's
    TORCHELASTIC_USE_AGENT_STORE, the parent hosts the store.
    """
    listener = os.environ.pop(LISTENER_VARIABLE, None)
    if listener is not None:
        os.set_inheritable(int(listener), False)
    hosted_by_parent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return torch_dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        env.world_size,
        is_master=env.is_main and not hosted_by_parent,
        timeout=timeout,
        master_listen_fd=None if listener is None else int(listener),
    )


def disable_shared_memory_op() -> None:
    """Disable DeepSpeed's all-reduce over shared memory: compiling it takes half a minute at every start.

    The table of ops is set because reading it makes DeepSpeed test a compiler for each op.
    """
    import deepspeed

    vars(deepspeed.ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False


def _introduce_deepspeed(backend: str) -> None:
    """Register the process group with DeepSpeed before ZeRO-3 partitions; else it assumes one rank."""
    import deepspeed

    disable_shared_memory_op()
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False)

"""The arithmetic of a global batch. Pure integers, torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """The division of a global batch: ranks x micro-batch x accumulation = global batch."""

    global_batch_size: int
    micro_batch_size: int
    accumulation: int
    world_size: int

    @property
    def sequences_per_micro_step(self) -> int:
        """The number of sequences in one forward pass of all ranks together."""
        return self.micro_batch_size * self.world_size


def solve_batch(*, global_batch_size: int, micro_batch_size: int, world_size: int) -> BatchPlan:
    """Compute the accumulation that yields the global batch size.

    Raises:
        ValueError: The global batch size is not divisible; the message has sizes that are.
    """
    per_step = micro_batch_size * world_size
    if global_batch_size % per_step:
        lower = global_batch_size // per_step * per_step
        near = " or ".join(str(size) for size in (lower, lower + per_step) if size)
        micro = [m for m in range(1, global_batch_size + 1) if global_batch_size % (m * world_size) == 0]
        raise ValueError(
            f"a global batch of {global_batch_size} sequences is not divisible by {world_size} ranks x "
            f"micro-batch {micro_batch_size}; set train.global_batch_size to {near}"
            + (f", or train.micro_batch_size to one of {', '.join(map(str, micro[:6]))}" if micro else "")
        )
    return BatchPlan(
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        accumulation=global_batch_size // per_step,
        world_size=world_size,
    )

"""Garbage is collected at the same step on all ranks: each at its own, they stall one another. Torch-free."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_EVERY_STEPS = 50
"""Cycles hold little here: tensors go with their last reference. What was made before the first step is
frozen, so that a collection looks at young objects only."""


@contextmanager
def aligned_collection() -> Iterator[None]:
    """Nothing is collected but by `collect_if_due`, until the end."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def collect_if_due(step: int) -> None:
    """Collect at the steps at which all ranks do."""
    if step % COLLECT_EVERY_STEPS == 0:
        gc.collect()

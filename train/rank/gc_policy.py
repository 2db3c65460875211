"""Policy of garbage collection: never during imports, and at the same step on all ranks. Torch-free."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from train.observer import StepDone, StepObserver

COLLECT_EVERY_STEPS = 50
"""Reference cycles hold little memory here: a tensor is freed with its last reference. Objects made before
the first step are frozen, so that a collection visits young objects only."""


@contextmanager
def frozen_imports() -> Iterator[None]:
    """Disable collection inside the block, then freeze all objects that exist at its end.

    Importing torch, transformers and deepspeed makes half a million objects. Collections during the imports
    take a fifth of their time; one more before the first step takes an eighth of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def aligned_collection() -> Iterator[None]:
    """Collect only in `collect_if_due` inside the block: otherwise ranks stall each other."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def collect_if_due(step: int) -> None:
    """Collect garbage if this step is one at which all ranks collect."""
    if step % COLLECT_EVERY_STEPS == 0:
        gc.collect()


class CollectionSteps(StepObserver):
    """Collects garbage every `COLLECT_EVERY_STEPS` steps."""

    def after(self, done: StepDone) -> None:
        """Collect garbage if a collection is due after this step."""
        collect_if_due(done.step)

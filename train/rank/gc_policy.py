"""When garbage is collected: not among imports, and at the same step on all ranks. Torch-free."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from train.observer import StepDone, StepObserver

COLLECT_EVERY_STEPS = 50
"""Cycles hold little here: tensors go with their last reference. What was made before the first step is
frozen, so that a collection looks at young objects only."""


@contextmanager
def frozen_imports() -> Iterator[None]:
    """What was made by its end stays, so nothing looks for garbage in it, until a training has ended.

    Half a million objects come with torch, transformers and deepspeed: going through them again and again is
    a fifth of the time to import them, and once more, before the first step, an eighth of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def aligned_collection() -> Iterator[None]:
    """Nothing is collected but by `collect_if_due`, until the end: else ranks stall one another."""
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


class CollectionSteps(StepObserver):
    """Collects garbage after the steps at which all ranks do."""

    def after(self, done: StepDone) -> None:
        """Collect if it is one of these steps."""
        collect_if_due(done.step)

"""Garbage waits for the step at which all ranks collect theirs."""

import gc
import weakref

import pytest

from train.garbage import COLLECT_EVERY_STEPS, aligned_collection, collect_if_due


class Knot:
    """Refers to itself: only a collection frees it."""

    def __init__(self) -> None:
        self.me = self


def test_garbage_is_collected_at_the_common_step_and_not_before():
    with aligned_collection():
        assert not gc.isenabled()
        knot = weakref.ref(Knot())
        collect_if_due(COLLECT_EVERY_STEPS - 1)
        assert knot() is not None
        collect_if_due(COLLECT_EVERY_STEPS)
        assert knot() is None


def test_python_collects_by_itself_again_after_the_training_however_it_ended():
    with pytest.raises(RuntimeError), aligned_collection():
        raise RuntimeError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0

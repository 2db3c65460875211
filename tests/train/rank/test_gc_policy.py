"""Garbage waits for the step at which all ranks collect theirs."""

import gc
import weakref

import pytest

from train.rank.gc_policy import COLLECT_EVERY_STEPS, aligned_collection, collect_if_due, frozen_imports


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


def test_imports_are_neither_interrupted_by_collections_nor_looked_at_by_later_ones():
    try:
        with frozen_imports():
            assert not gc.isenabled()
            kept = [Knot()]
        assert gc.isenabled()
        assert all(found is not kept for found in gc.get_objects())
    finally:
        gc.unfreeze()


def test_python_collects_again_after_an_import_that_failed():
    try:
        with pytest.raises(ImportError), frozen_imports():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()

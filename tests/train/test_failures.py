"""Classes of failures, what follows each, and which of several came first."""

from pathlib import Path

import pytest
import torch

from train.failures import DataError, Failure, classify, describe, first_cause, read_failures, what_follows

FRESH = {"restarts": 0, "may_requeue": False, "stopping": False}


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (DataError("row"), "data", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), "network", True),
        (ZeroDivisionError(), "bug", False),
    ],
)
def test_the_class_of_a_failure_decides(error: Exception, kind: str, again: bool):
    assert classify(error) == kind
    then = what_follows(describe(error, rank=0, time=0.0).failure_class, **{**FRESH, "may_requeue": True})
    assert then == ("restart" if again else "stop")


@pytest.mark.parametrize(
    ("kind", "more", "then"),
    [
        ("killed", {}, "restart"),
        ("hang", {"restarts": 2}, "restart"),
        ("killed", {"restarts": 3}, "stop"),
        ("killed", {"restarts": 3, "may_requeue": True}, "requeue"),
        ("killed", {"stopping": True, "may_requeue": True}, "requeue"),
        ("killed", {"stopping": True}, "stop"),
        ("node", {"may_requeue": True}, "requeue"),
        ("node", {}, "stop"),
        ("user", {"may_requeue": True}, "stop"),
        ("no_checkpoint", {"may_requeue": True}, "stop"),
    ],
)
def test_what_follows_a_failure(kind: str, more: dict[str, object], then: str):
    assert what_follows(kind, **{**FRESH, **more}) == then


def test_the_first_cause_is_not_the_rank_that_lost_its_peers(tmp_path: Path):
    common = {"host": "h", "detail": ""}
    Failure(failure_class="network", message="lost", rank=0, time=1.0, **common).write(
        tmp_path / "failure_rank_0.json"
    )
    Failure(failure_class="data", message="row", rank=1, time=2.0, **common).write(
        tmp_path / "failure_rank_1.json"
    )
    cause = first_cause(read_failures(tmp_path))
    assert cause
    assert cause.rank == 1

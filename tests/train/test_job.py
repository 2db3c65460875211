"""What a rank is given."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from train.job import TrainJob


@pytest.mark.parametrize(
    ("asked", "device", "method"),
    [
        ("auto", "cpu", "fork"),
        ("auto", "cuda", "spawn"),
        ("fork", "cuda", "fork"),
        ("spawn", "cpu", "spawn"),
    ],
)
def test_auto_forks_cpu_ranks_only(asked: str, device: str, method: str) -> None:
    settings: Any = SimpleNamespace(train=SimpleNamespace(start_method=asked))
    job = TrainJob(cast("Any", None), settings, cast("Any", SimpleNamespace(device=device)), {})
    assert job.start_method == method

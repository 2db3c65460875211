"""Every test here needs a GPU: all of them carry the mark, and are skipped where there is none."""

import os
from pathlib import Path

import pytest
import torch

_VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")
"""As the user has set it: all other tests hide GPUs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _gpus_are_visible(_private_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if _VISIBLE is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", _VISIBLE)

"""The process that starts the trials of a sweep on this machine."""

import os
from pathlib import Path

import pytest

from launcher.lifecycle.start import visible_devices
from launcher.node.entry import VISIBLE_DEVICES
from launcher.records.sweeps import SweepDir
from launcher.sweep import local


@pytest.mark.parametrize("chosen", [None, "", "2,3"])
def test_a_trial_sees_the_gpus_of_the_user(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Submitit gives the process that starts the trials an empty list of GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    handed_on = visible_devices()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.delenv(VISIBLE_DEVICES, raising=False)
    for name, value in handed_on.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(local, "die_with_parent", lambda: None)
    monkeypatch.setattr(SweepDir, "adopt_umask", lambda _: None)
    monkeypatch.setattr(SweepDir, "arrays", lambda _: [])
    local.run_slices(str(tmp_path), [], 1)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == chosen
    assert visible_devices() == handed_on
    assert not [name for name in os.environ if name.startswith("SUBMITIT_")]

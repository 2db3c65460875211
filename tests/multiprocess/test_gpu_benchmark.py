"""benchmarks.gpu as far as a CPU can tell: it refuses without a GPU, and its arms do the same training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--small", "--length=64", "--batch=2", "--steps=3", "--repeats=1", "--json")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_it_says_so():
    done = benchmark()
    assert done.returncode == 2
    assert "no GPU found" in done.stderr


def test_both_arms_train_alike():
    done = benchmark(*SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ours, theirs = (row["losses"] for row in result["rows"])
    assert len(ours) == 8
    assert ours == pytest.approx(theirs, abs=1e-2)
    assert all(row["speeds"][0] > 0 and row["peaks_gb"][0] > 0 for row in result["rows"])

"""W&B's files on a full disk: nothing is lost but in them, the journal says so, and they are mended."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from train.config import TrackingConfig, TrainingConfig
from train.job import TrainJob, TrainPlan
from train.rundir import RunDir, read_lines
from train.tracking import Tracker
from train.wandb_files import recorded_steps

STEPS = 1500
"""W&B's records of so many steps take about four times the room that there is."""


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """What a tracker reads of a job."""
    tracking = TrackingConfig(wandb="offline")
    return TrainJob(
        run_dir=RunDir(tmp_path),
        config=TrainingConfig.model_construct(name="full", tracking=tracking),
        plan=TrainPlan.model_construct(run="full", wandb_id="full0000"),
        deepspeed={},
    )


@pytest.fixture
def resize(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Makes the run's wandb/ a small disk of its own, and larger when called."""
    folder = tmp_path / "wandb"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (it takes root)")
    yield (
        lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True) and None
    )
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def log_steps(job: TrainJob, attempt: int, first: int, last: int) -> None:
    tracker = Tracker(job, attempt)
    for step in range(first, last + 1):
        tracker.log_step({"step": step, "loss": 1.0 / step, "lr": 1e-3})
    tracker.close({"stopped_at_step": last})


def test_a_full_disk_of_wandb_costs_no_metric_and_is_mended_by_the_next_attempt(
    job: TrainJob, resize: Callable[[str], None]
):
    log_steps(job, 1, 1, STEPS)
    assert [row["step"] for row in read_lines(job.run_dir.metrics)] == list(range(1, STEPS + 1))
    there = recorded_steps(job.run_dir.root)
    assert len(there) < STEPS, "the disk was not full"
    [told] = [row for row in read_lines(job.run_dir.events) if row["event"] == "tracking"]
    assert f"W&B's file ends with step {max(there)} instead of {STEPS} (a full disk?)" in told["why"]
    resize("64m")
    log_steps(job, 2, STEPS + 1, STEPS + 5)
    Tracker(job, 3).close({"nothing": "was trained"})
    assert sorted(recorded_steps(job.run_dir.root)) == list(range(1, STEPS + 6))
    assert len([row for row in read_lines(job.run_dir.events) if row["event"] == "tracking"]) == 1

"""What W&B gets: on a full disk nothing is lost but in its files, which are mended; a sweep's table."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rows import metrics_row
from train.config import TrackingConfig, TrainingConfig
from train.job import TrainJob, TrainPlan
from train.measure.tracking import Tracker, publish_table
from train.measure.wandb_files import HEADER_BYTES, read_records, recorded_steps
from train.rundir import RunDir, read_lines

STEPS = 1500
"""W&B's records of so many steps take about four times the room that there is."""


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """What a tracker reads of a job."""
    tracking = TrackingConfig(wandb="offline")
    return TrainJob(
        run_dir=RunDir(tmp_path),
        config=TrainingConfig.model_construct(name="full", tracking=tracking),  # type: ignore[call-arg]
        plan=TrainPlan.model_construct(run="full", wandb_id="full0000"),  # type: ignore[call-arg]
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

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    yield resize
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def log_steps(job: TrainJob, attempt: int, first: int, last: int) -> None:
    tracker = Tracker(job, attempt)
    for step in range(first, last + 1):
        tracker.log_step(metrics_row(step, 1.0 / step, attempt=attempt))
    tracker.close({"stopped_at_step": last})


def test_a_full_disk_of_wandb_costs_no_metric_and_is_mended_by_the_next_attempt(
    job: TrainJob, resize: Callable[[str], None]
):
    log_steps(job, 1, 1, STEPS)
    assert [row["step"] for row in read_lines(job.run_dir.metrics)] == list(range(1, STEPS + 1))
    there = recorded_steps(job.run_dir.root)
    assert len(there) < STEPS, "the disk was not full"
    [told] = [row for row in read_lines(job.run_dir.events) if row["event"] == "tracking"]
    assert f"W&B's file ends at step {max(there)} instead of {STEPS} (disk full?)" in told["reason"]
    resize("64m")
    log_steps(job, 2, STEPS + 1, STEPS + 5)
    Tracker(job, 3).close({"nothing": "was trained"})
    assert sorted(recorded_steps(job.run_dir.root)) == list(range(1, STEPS + 6))
    assert len([row for row in read_lines(job.run_dir.events) if row["event"] == "tracking"]) == 1


def test_a_table_is_a_run_of_its_own_in_the_group_of_its_sweep(tmp_path: Path):
    rows = [[1e-3, "2/2", 6.327], [1e-2, None, None]]
    where = publish_table(
        TrackingConfig(wandb="offline", project="tables"),
        group="smoke-sweep",
        directory=tmp_path,
        columns=["optim.lr", "done", "loss"],
        rows=rows,
    )
    assert where == "smoke-sweep results"
    [record] = [run for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb") for run in runs_in(path)]
    assert (record.run_group, record.job_type, record.display_name) == ("smoke-sweep", "results", where)
    [table] = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["0.001", "2/2", "6.327"], ["0.01", None, None]]


def runs_in(path: Path) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    records = [Record.FromString(data) for data in read_records(path.read_bytes(), HEADER_BYTES)]
    return [record.run for record in records if record.HasField("run")]

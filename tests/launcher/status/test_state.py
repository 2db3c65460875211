"""What is said of a trial that has not begun, by what Slurm remembers of its place in the array."""

from pathlib import Path

import pytest

from launcher.records.jobs import Job
from launcher.status.queue import QueueView
from launcher.status.state import State, Unstarted, judge_unstarted
from slurm.states import JobRecord

KEY = "sweep.1a2b3c4d[1]"


def trial(sweep: Path) -> Unstarted:
    return Unstarted(
        name="smoke-1234",
        root=sweep / "smoke-1234",
        key=KEY,
        job=Job(job_id="11", name="sweep.1a2b3c4d"),
        handed_over=0.0,
        cancelled=False,
    )


def element(state: str) -> JobRecord:
    return JobRecord(job_id="11_1", state=state, name="sweep.1a2b3c4d", start=None, nodes="n2", reason="None")


@pytest.mark.parametrize(
    ("in_slurm", "has_output", "state"),
    [
        ("PENDING", False, "PENDING"),
        ("RUNNING", True, "PENDING"),
        ("NODE_FAIL", False, "FAILED"),
        ("CANCELLED", False, "CANCELLED"),
        # While its batch script began.
        ("CANCELLED", True, "CANCELLED"),
        (None, False, "CANCELLED"),
        (None, True, "FAILED"),
    ],
)
def test_a_trial_that_never_began(tmp_path: Path, in_slurm: str | None, has_output: bool, state: State):
    if has_output:
        output = tmp_path / "submitit" / "11_1_batch.out"
        output.parent.mkdir()
        output.touch()
    record = element(in_slurm) if in_slurm else None
    assert judge_unstarted(trial(tmp_path), record, QueueView())[0] == state


def test_an_absent_controller_settles_nothing(tmp_path: Path):
    found = judge_unstarted(trial(tmp_path), None, QueueView(error="timed out"))
    assert found == ("PENDING", "Slurm does not answer: timed out")

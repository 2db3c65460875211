"""Which steps are profiled, what is left of them, and which are refused."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from train.config import TrainConfig
from train.dist import DistEnv
from train.failures import UserError
from train.journal.events import Profiled, ProfileFailed
from train.journal.reading import of_kind, read_journal
from train.measure import profiling
from train.measure.profiling import StepProfiler, check_profile_steps
from train.observer import StepDone, StepSize
from train.rundir import RunDir


class FakeProfile:
    """A profiler of torch's that records nothing."""

    error: OSError | None = None

    def __init__(self, **_: Any) -> None:
        self.is_running = False

    def start(self) -> None:
        self.is_running = True

    def stop(self) -> None:
        assert self.is_running
        self.is_running = False

    def export_chrome_trace(self, path: str) -> None:
        assert not self.is_running
        Path(path).write_text("trace")
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def _profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "profile", FakeProfile)


def config(steps: list[int] | None) -> TrainConfig:
    return TrainConfig.model_validate({"global_batch_size": 4, "profile_steps": steps})


def profiled(root: Path, steps: list[int] | None, made: range, rank: int = 0) -> list[str]:
    """Names of the traces of a training that makes some steps and closes."""
    env = DistEnv(rank=rank, local_rank=rank, world_size=2, device=torch.device("cpu"))
    profiler = StepProfiler(config(steps), RunDir(root), env, attempt=2)
    for step in made:
        profiler.before(step)
        profiler.after(StepDone(step=step, sample_ids=[], size=StepSize(), applied=True))
    profiler.close()
    profiler.close()
    folder = RunDir(root).profile
    return [path.name for path in folder.iterdir()] if folder.exists() else []


@pytest.mark.parametrize(
    ("steps", "made", "names"),
    [
        (None, range(1, 9), []),
        ([3, 4], range(1, 9), ["attempt_2_steps_3_4.json.gz"]),
        ([3, 3], range(1, 9), ["attempt_2_steps_3_3.json.gz"]),
        ([3, 6], range(1, 5), ["attempt_2_steps_3_4.json.gz"]),
        ([3, 6], range(5, 9), ["attempt_2_steps_5_6.json.gz"]),
        ([3, 4], range(5, 9), []),
        ([7, 8], range(1, 5), []),
    ],
)
def test_the_steps_that_an_attempt_makes_are_recorded(
    tmp_path: Path, steps: list[int] | None, made: range, names: list[str]
):
    assert profiled(tmp_path, steps, made) == names
    events = of_kind(read_journal(RunDir(tmp_path).events), Profiled)
    assert [event.file for event in events] == [f"profile/{name}" for name in names]


def test_other_ranks_record_nothing(tmp_path: Path):
    assert profiled(tmp_path, [3, 4], range(1, 9), rank=1) == []


def test_a_disk_without_room_costs_the_trace_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeProfile, "error", OSError(errno.ENOSPC, "No space left on device"))
    assert profiled(tmp_path, [3, 4], range(1, 9)) == []
    [failed] = of_kind(read_journal(RunDir(tmp_path).events), ProfileFailed)
    assert "No space left on device" in failed.reason


@pytest.mark.parametrize(
    ("steps", "total", "refused"), [(None, 1, False), ([3, 5], 5, False), ([3, 6], 5, True)]
)
def test_steps_beyond_the_run_are_refused(steps: list[int] | None, total: int, refused: bool):
    if not refused:
        check_profile_steps(config(steps), total)
        return
    with pytest.raises(UserError, match="5"):
        check_profile_steps(config(steps), total)

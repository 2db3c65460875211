"""The parts of a save: copies, schedule, what is kept, and faults on demand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from train.checkpoint.schedule import SaveSchedule, best_interval_s
from train.checkpoint.store import droppable
from train.config import CheckpointConfig
from train.engine.host_copy import HostCopy, all_finite
from train.faults import Faults, flip_one_bit, parse_faults
from train.rank_environment import RankStart
from train.step_number import StepNumber


def test_a_copy_shares_nothing_and_uses_its_buffers_again():
    weight = torch.arange(6.0).view(2, 3)
    state: dict[str, Any] = {
        "module": {"a": weight, "tied": weight},
        "groups": [{"lr": 0.1, "params": [0, 1]}],
        "shape": (2, 3),
    }
    copies = HostCopy(pinned=False)
    first = copies.take("file", state)
    address = first["module"]["a"].data_ptr()
    weight += 1
    state["groups"][0]["lr"] = 0.2
    assert first["module"]["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert first["groups"][0]["lr"] == 0.1
    assert first["module"]["tied"] is first["module"]["a"], "a tied weight would be written twice"
    assert copies.nbytes == weight.nbytes
    second = copies.take("file", state)
    assert second["module"]["a"].data_ptr() == address
    assert second["module"]["a"].tolist() == weight.tolist()


def test_a_part_of_a_large_tensor_is_copied_alone():
    large = torch.zeros(1000)
    part = HostCopy(pinned=False).take("file", {"x": large[10:20]})["x"]
    assert part.untyped_storage().nbytes() == 10 * large.element_size()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_found(bad: float):
    good: dict[str, Any] = {"a": [torch.ones(5, dtype=torch.bfloat16)], "n": torch.tensor([1]), "text": "nan"}
    assert all_finite(good)
    good["a"][0][3] = bad
    assert not all_finite(good)


def test_large_but_finite_numbers_are_finite():
    assert all_finite(torch.full((1000,), 3e38))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_saves_by_step_by_time_and_on_request(tmp_path: Path):
    clock, request = Clock(), tmp_path / "save"
    schedule = SaveSchedule(CheckpointConfig(every_steps=10, every_min=2), request, clock)
    assert [step for step in range(1, 31) if schedule.due(step)] == [10, 20, 30]
    clock.now = 121
    assert schedule.due(31)
    schedule.saved(0.1)
    assert not schedule.due(32)
    request.touch()
    clock.now += 1
    assert schedule.due(33)
    assert not request.exists()
    assert not schedule.due(34)


def test_the_interval_that_loses_least():
    assert best_interval_s(2.0, 8 * 3600) == pytest.approx(339.4, abs=0.1)
    clock = Clock()
    schedule = SaveSchedule(CheckpointConfig(every_steps="auto", mtbf_min=480), Path("/none"), clock)
    assert schedule.due(1), "the first save measures"
    schedule.saved(2.0)
    clock.now = 339
    assert not schedule.due(2)
    clock.now = 340
    assert schedule.due(3)


def test_what_nothing_keeps_is_dropped():
    steps = [60, 50, 40, 30, 20, 10]
    assert droppable(steps, 2, None, None) == [40, 30, 20, 10]
    assert droppable(steps, 1, 20, 10) == [50, 30]
    assert droppable([10], 1, None, None) == [], "the last one"


def test_faults_strike_once_where_they_are_asked_to():
    [fault] = parse_faults("enospc@save.shard:rank=1:step=20")
    assert (fault.kind, fault.point, fault.rank, fault.step, fault.attempt) == (
        "enospc",
        "save.shard",
        1,
        20,
        1,
    )
    faults = Faults([fault], rank=1, attempt=1, restart=0)
    faults.hit("save.shard", step=10)
    faults.hit("save.manifest", step=20)
    with pytest.raises(OSError, match="No space left on device"):
        faults.hit("save.shard", step=20)
    faults.hit("save.shard", step=20)
    for other in ({"rank": 0}, {"attempt": 2}, {"restart": 1}):
        Faults([fault], **{"rank": 1, "attempt": 1, "restart": 0, **other}).hit("save.shard", step=20)


@pytest.mark.parametrize("text", ["explode@step", "kill9@nowhere", "kill9@step:where=1", "kill9@step:rank=x"])
def test_a_fault_that_does_not_exist_is_refused(text: str):
    with pytest.raises(ValueError, match="SHARDLINE_FAULT"):
        parse_faults(text)


def test_without_the_variable_nothing_strikes():
    faults = Faults.from_environ({}, rank=0, start=RankStart(), number=StepNumber())
    assert faults.hit("backward") is False


def test_a_flipped_bit_is_one_bit(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    flip_one_bit(path)
    assert sum(byte.bit_count() for byte in path.read_bytes()) == 1
    assert path.stat().st_size == 100

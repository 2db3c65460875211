"""One save in the background: what ranks report, what is published, and what keeps a save from it."""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from train.checkpoint.manifest import FileRecord, record
from train.checkpoint.writer import REPORTS, BackgroundSave
from train.engine.host_copy import PendingFile
from train.faults import NO_FAULTS, Faults, parse_faults

STEP = 6
WITHIN_S = 10.0


class Save:
    """The threads of a save, one for each rank, and what was published of it."""

    def __init__(self, root: Path, world_size: int = 2) -> None:
        self.staging = root / "staging"
        for name in (REPORTS, "shards"):
            (self.staging / name).mkdir(parents=True)
        (self.staging / "progress.json").write_text("{}")
        self.world_size = world_size
        self.published: list[dict[str, FileRecord]] = []
        self.reports_at_publishing: list[str] = []
        self.publish_error: OSError | None = None
        self.ranks: dict[int, BackgroundSave] = {}

    def shard(self, rank: int) -> Path:
        return self.staging / "shards" / f"rank_{rank}.pt"

    def begin(
        self, rank: int, state: Any = None, *, faults: str = "", problem: str | None = None
    ) -> BackgroundSave:
        state = {"weight": torch.full((3,), float(rank))} if state is None else state
        save = BackgroundSave(
            self.staging,
            STEP,
            [PendingFile(self.shard(rank), state)],
            rank=rank,
            world_size=self.world_size,
            faults=Faults(parse_faults(faults), rank=rank, attempt=1, restart=0) if faults else NO_FAULTS,
            publish=self._publish,
            problem=problem,
        )
        self.ranks[rank] = save
        save.start()
        return save

    def _publish(self, files: dict[str, FileRecord]) -> None:
        self.reports_at_publishing = sorted(path.name for path in (self.staging / REPORTS).iterdir())
        self.published.append(files)
        if self.publish_error:
            raise self.publish_error

    def problem_of(self, rank: int) -> str | None:
        save = self.ranks[rank]
        save.join(WITHIN_S)
        assert save.outcome is not None, "the thread ended without an outcome, or did not end"
        assert save.outcome.step == STEP
        return save.outcome.problem

    def report_of(self, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.staging / REPORTS / f"rank_{rank}.json").read_text())
        return found


@contextmanager
def saving(root: Path, world_size: int = 2) -> Iterator[Save]:
    """A save whose threads have all ended afterwards."""
    save = Save(root, world_size)
    try:
        yield save
    finally:
        for rank in save.ranks.values():
            rank.abandon()
            rank.join(WITHIN_S)
    assert not [thread.name for thread in threading.enumerate() if thread.name == f"save-{STEP}"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_all_ranks_wrote_is_published_once_by_rank_0(tmp_path: Path, order: tuple[int, int]):
    with saving(tmp_path) as save:
        for rank in order:
            save.begin(rank)
        assert [save.problem_of(rank) for rank in (0, 1)] == [None, None]
    [files] = save.published
    assert sorted(files) == ["progress.json", "shards/rank_0.pt", "shards/rank_1.pt"]
    assert {name: record(save.staging / name) for name in files} == files
    assert save.reports_at_publishing == ["rank_0.json", "rank_1.json"]
    for rank in (0, 1):
        assert torch.load(save.shard(rank))["weight"].tolist() == [rank] * 3


def test_rank_0_waits_for_the_reports_of_all(tmp_path: Path):
    with saving(tmp_path, world_size=3) as save:
        first = save.begin(0)
        save.begin(1)
        assert save.problem_of(1) is None
        assert first.is_alive()
        assert not save.published
        save.begin(2)
        assert save.problem_of(0) is None
    assert len(save.published) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_state_that_is_not_finite_is_refused_on_all_ranks(tmp_path: Path, bad: float, rank: int):
    with saving(tmp_path) as save:
        save.begin(rank, {"optimizer": [{"exp_avg": torch.tensor([1.0, bad])}]})
        save.begin(1 - rank)
        assert f"rank_{rank}.pt" in (save.problem_of(rank) or "")
        if rank:
            assert save.problem_of(0) == save.problem_of(1)
    assert not save.published
    assert save.report_of(rank)["files"] == {}
    assert not save.shard(rank).exists()


def test_a_problem_of_the_copy_is_reported(tmp_path: Path):
    with saving(tmp_path) as save:
        save.begin(1, problem="no room for the copy")
        save.begin(0)
        assert save.problem_of(0) == save.problem_of(1) == "no room for the copy"
    assert not save.published


@pytest.mark.parametrize("point", ["save.shard", "save.written", "save.report"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_on_a_full_disk_makes_room_for_its_report(tmp_path: Path, point: str, rank: int):
    with saving(tmp_path) as save:
        save.begin(rank, faults=f"enospc@{point}:step={STEP}")
        save.begin(1 - rank)
        assert point in (save.problem_of(rank) or "")
        save.problem_of(0)
    assert not save.published
    assert not save.shard(rank).exists()
    assert save.report_of(rank)["problem"] == save.problem_of(rank)
    assert save.shard(1 - rank).exists()


@pytest.mark.parametrize("numbers", [3, 500_000])
def test_a_full_disk_is_named_wherever_it_strikes(tmp_path: Path, numbers: int):
    with saving(tmp_path) as save:
        save.shard(1).symlink_to("/dev/full")
        save.begin(1, {"weight": torch.ones(numbers)})
        save.begin(0)
        assert save.problem_of(1) == save.problem_of(0) == os.strerror(errno.ENOSPC)
    assert not save.published


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_any_kind_is_reported_so_that_no_rank_waits(tmp_path: Path, rank: int):
    with saving(tmp_path) as save:
        save.begin(rank, {"hook": lambda: None})
        save.begin(1 - rank)
        problem = save.problem_of(rank)
        assert problem
        save.problem_of(0)
    assert save.report_of(rank)["problem"] == problem
    assert not save.published


def test_a_peer_that_cannot_even_report_is_abandoned(tmp_path: Path):
    with saving(tmp_path) as save:
        first = save.begin(0)
        save.begin(1, faults="enospc@save.report:times=2")
        assert "save.report" in (save.problem_of(1) or "")
        assert first.is_alive()
        first.abandon()
        assert save.problem_of(0)
    assert not save.published
    assert [path.name for path in (save.staging / REPORTS).iterdir()] == ["rank_0.json"]


def test_what_keeps_rank_0_from_publishing_is_its_outcome(tmp_path: Path):
    with saving(tmp_path, world_size=1) as save:
        save.publish_error = OSError(errno.EDQUOT, "over quota")
        save.begin(0)
        assert save.problem_of(0) == "over quota"


def test_the_record_is_of_what_was_meant_to_be_written(tmp_path: Path):
    """A disk that changes a bit is found when the file is read: its record is not made from the disk."""
    with saving(tmp_path, world_size=1) as save:
        save.begin(0, faults="bitflip@save.written")
        assert save.problem_of(0) is None
    [files] = save.published
    assert files["shards/rank_0.pt"].size == save.shard(0).stat().st_size
    assert files["shards/rank_0.pt"] != record(save.shard(0))

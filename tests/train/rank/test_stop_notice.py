"""The warning that a stop may come too late to save."""

from pathlib import Path

import pytest

from train.rank.stop_notice import PreemptionNotice
from train.rundir import RunDir, read_lines


def warnings(run: RunDir) -> list[tuple[int, float, int]]:
    rows = read_lines(run.events) if run.events.exists() else ()
    return [(row["attempt"], row["needed_s"], row["notice_s"]) for row in rows]


def test_a_notice_that_is_too_short_is_journaled_and_again_when_it_gets_worse_by_half(tmp_path: Path):
    run = RunDir(tmp_path)
    notice = PreemptionNotice(run, attempt=2, main=True, notice_s=60)
    notice.check(10.0, 50.0)
    assert warnings(run) == [], "a minute is enough for a minute"
    notice.check(10.0, 60.0)
    notice.check(10.0, 90.0)
    assert warnings(run) == [(2, 70.0, 60)]
    notice.check(10.0, 96.0)
    assert warnings(run) == [(2, 70.0, 60), (2, 106.0, 60)]


@pytest.mark.parametrize(("main", "notice_s"), [(False, 60), (True, None)])
def test_other_ranks_and_runs_without_a_scheduler_write_none(
    tmp_path: Path, main: bool, notice_s: int | None
):
    run = RunDir(tmp_path)
    PreemptionNotice(run, attempt=1, main=main, notice_s=notice_s).check(100.0, 100.0)
    assert warnings(run) == []

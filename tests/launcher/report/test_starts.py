"""What interruptions cost is told from the journal and the metrics alone."""

from pathlib import Path

import pytest

from launcher.records.history import attempts_of
from launcher.report.contents import Start
from launcher.report.starts import marks_of, name_of, starts_of
from tests.launcher.report.factory import Writer
from train.journal.events import RolledBack
from train.journal.reading import read_journal
from train.metrics import latest_by_step, read_metrics
from train.rundir import RunDir


def starts(run: RunDir) -> tuple[Start, ...]:
    events = read_journal(run.events)
    return starts_of(events, read_metrics(run), attempts_of(events))


def test_every_start_has_its_reason_and_its_steps(rough_run: Path):
    found = starts(RunDir(rough_run))
    assert [name_of(start) for start in found] == [
        "attempt 1",
        "attempt 1, restart 1",
        "attempt 2",
        "attempt 3",
    ]
    assert [(start.from_step, start.to_step) for start in found] == [
        (0, 130),
        (100, 180),
        (180, 300),
        (250, 400),
    ]
    assert [start.redone_steps for start in found] == [30, 0, 50, 0]
    assert "was killed" in (found[0].ended or "")
    assert found[1].ended == "stopped by SIGUSR2 after step 180"
    assert found[2].ended is None
    assert found[3].ended == "finished"


def test_lost_time_is_redone_work_waiting_and_starting(tmp_path: Path):
    writer = Writer(tmp_path / "run").start().steps(1, 20).checkpoint(10)
    writer.start(resumed=10, after_s=100).steps(11, 30)
    first, second = starts(writer.run)
    # Ten steps of a second each were made again, and it waited 100 s (a save took 0.1 s).
    assert first.lost_s == pytest.approx(10 + 0.1 + 100)
    assert second.lost_s == pytest.approx(3 + 1), "from its start to its first step"


def test_a_clean_stop_loses_no_step(tmp_path: Path):
    writer = Writer(tmp_path / "run").start().steps(1, 20).checkpoint(20).preempt(20, "SIGTERM")
    writer.start(resumed=20, after_s=50).steps(21, 30)
    first, _ = starts(writer.run)
    assert first.redone_steps == 0
    assert first.lost_s == pytest.approx(50.1)


@pytest.mark.parametrize("reason", ["sweep.halving", "shardline stop"])
def test_waiting_where_one_was_told_to_wait_is_not_lost(tmp_path: Path, reason: str):
    writer = Writer(tmp_path / "run").start().steps(1, 20).preempt(20, reason)
    writer.start(resumed=20, after_s=5000).steps(21, 30)
    assert starts(writer.run)[0].lost_s == 0


def test_a_start_that_never_came_to_a_step_is_lost_whole(tmp_path: Path):
    writer = Writer(tmp_path / "run").start().steps(1, 20).checkpoint(20)
    writer.start(after_s=10).crash("no GPU", then="requeue")
    writer.start(after_s=10, resumed=20).steps(21, 30)
    _, second, third = starts(writer.run)
    assert (second.from_step, second.to_step, second.ended) == (0, 0, "no GPU")
    assert second.lost_s == pytest.approx(third.began - second.began)


def test_curves_are_marked_where_they_go_on(rough_run: Path):
    run = RunDir(rough_run)
    back = RolledBack(attempt=3, step=320, to_step=300, skipped=(301, 320), reason="NaN")
    marks = marks_of(starts(run), [*read_journal(run.events), back], latest_by_step(read_metrics(run)))
    assert [mark.step for mark in marks] == [100, 180, 250, 300]
    assert marks[1].text == "attempt 2 continues here; the last one ended: stopped by SIGUSR2 after step 180"
    assert marks[2].tokens == 250 * 4096
    assert marks[3].text == "rolled back from step 320: NaN"


def test_a_run_that_never_started_has_no_starts(tmp_path: Path):
    assert starts(Writer(tmp_path / "run").run) == ()

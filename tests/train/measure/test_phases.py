"""A start is timed phase by phase from the process's exec, and told once."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.records.history import attempts_of
from train.journal.events import PhaseBegun, StartTimed
from train.journal.phases import Phase
from train.journal.reading import of_kind, read_journal
from train.measure.phases import PhaseTimer, phase_seconds, process_age_s
from train.node.heartbeat import Heartbeat
from train.observer import StepDone, StepSize
from train.rank_environment import RankStart
from train.rundir import RunDir


def test_the_phases_add_up_and_one_that_came_twice_is_counted_together():
    begun = [
        (Phase.IMPORTS, 0.0),
        (Phase.LOAD_MODEL, 5.0),
        (Phase.RESTORE, 7.0),
        (Phase.LOAD_MODEL, 8.0),
    ]
    assert phase_seconds(begun, 10.0) == {"imports": 5.0, "load model": 4.0, "restore": 1.0}


def test_a_process_knows_when_it_was_started():
    before = time.monotonic()
    code = (
        "import time; time.sleep(0.3); from train.measure.phases import process_age_s; print(process_age_s())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.28 < float(done.stdout) < time.monotonic() - before + 0.02
    assert process_age_s() > 0


@pytest.mark.parametrize("main", [True, False])
def test_rank_0_journals_the_start_once(tmp_path: Path, main: bool):
    run = RunDir(tmp_path)
    phases = PhaseTimer(run, Heartbeat(tmp_path, 0), RankStart(attempt=2), main=main)
    for phase in (Phase.PREPARE_DATA, Phase.LOAD_MODEL, Phase.TRAIN):
        phases.begin(phase)
    for step in (1, 2):
        phases.after(StepDone(step=step, sample_ids=[], size=StepSize(), applied=True))
    phases.begin(Phase.EXPORT)
    rows = read_journal(run.events)
    if not main:
        assert rows == []
        return
    [start] = of_kind(rows, StartTimed)
    assert list(start.seconds) == ["imports", "prepare data", "load model", "first step"]
    assert start.total_s == pytest.approx(sum(start.seconds.values()), abs=0.01)
    assert attempts_of(rows)[0].start == start.seconds
    assert of_kind(rows, PhaseBegun)[-1].phase is Phase.EXPORT

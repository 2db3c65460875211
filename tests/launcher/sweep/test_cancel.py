"""Ending a sweep: which jobs are cancelled, which trials are told, and what the journals say."""

from pathlib import Path
from typing import Any

import pytest

from launcher.errors import Refused
from launcher.records.jobs import record_intent
from launcher.records.sweep_journal import SweepCancelled
from launcher.records.sweeps import ArrayJob, SweepDir
from launcher.status.state import State
from launcher.sweep import cancel as module
from launcher.sweep.cancel import cancel_sweep, stop_sweep
from slurm.client import SlurmError
from slurm.states import JobRecord
from tests.launcher.sweep.parts import SLURM, made_sweep, status_of, sweep_plan
from train.failures import ExitCode
from train.journal.events import Cancelled
from train.journal.reading import of_kind, read_journal
from train.records.base import now

pytestmark = pytest.mark.usefixtures("umask")
STATES: list[State] = ["RUNNING", "PENDING", "COMPLETED", "RUNNING"]


class Sweep:
    """Four trials: one runs in the sweep's array, one waits, one is finished, one was resumed by itself."""

    def __init__(self, root: Path) -> None:
        self.dir: SweepDir = made_sweep(sweep_plan(root, [{"seed": seed} for seed in range(4)], SLURM))
        self.names = [trial.name for trial in self.dir.read().trials]
        array = ArrayJob(
            time=now(), executor="slurm", name="a", trials=self.names, rung=None, chain=None, places=4
        )
        self.dir.record_array(array)
        for number, key in ((0, "a[0]"), (2, "a[2]"), (3, "resumed")):
            self.dir.run(self.names[number]).root.mkdir()
            record_intent(self.dir.run(self.names[number]), "slurm", key)
        self.records = [
            record("9_0", "RUNNING", "a"),
            record("9_[1,3]", "PENDING", "a"),
            record("8_0", "COMPLETED", "a"),
            record("5", "RUNNING", "another"),
        ]
        self.error: SlurmError | None = None
        self.cancelled: list[tuple[str, bool]] = []
        self.runs: list[str] = []

    def queue(self) -> list[JobRecord]:
        return self.records

    def cancel(self, job_id: str, *, waiting_only: bool) -> None:
        if self.error:
            raise self.error
        self.cancelled.append((job_id, waiting_only))

    def read_sweep(self, *_: Any) -> list[Any]:
        return [status_of(name, state) for name, state in zip(self.names, STATES, strict=True)]

    @property
    def events(self) -> list[SweepCancelled]:
        return [event for event in self.dir.read_journal() if isinstance(event, SweepCancelled)]


def record(job_id: str, state: str, name: str) -> JobRecord:
    return JobRecord(job_id=job_id, state=state, name=name, start=None, nodes="", reason="")


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    sweep = Sweep(tmp_path / "sweep")
    monkeypatch.setattr(module, "queue", sweep.queue)
    monkeypatch.setattr(module, "cancel", sweep.cancel)
    monkeypatch.setattr(module, "read_sweep", sweep.read_sweep)
    monkeypatch.setattr(module, "cancel_run", lambda run: sweep.runs.append(run.root.name))
    return sweep


def test_cancelling_ends_what_waits_and_what_runs(sweep: Sweep):
    assert cancel_sweep(sweep.dir) == 3
    assert sweep.cancelled == [("9", False)]
    assert sweep.runs == [sweep.names[3]]
    assert [event.waiting_only for event in sweep.events] == [False]
    cancelled = [name for name in sweep.names if of_kind(read_journal(sweep.dir.run(name).events), Cancelled)]
    assert cancelled == [sweep.names[0]]


def test_stopping_asks_what_runs_and_cancels_what_waits(sweep: Sweep):
    assert stop_sweep(sweep.dir) == 2
    assert sweep.cancelled == [("9", True)]
    asked = [name for name in sweep.names if sweep.dir.run(name).stop_request.exists()]
    assert asked == [sweep.names[0], sweep.names[3]]
    assert [event.waiting_only for event in sweep.events] == [True]
    assert sweep.runs == []


def test_a_queue_that_does_not_answer_cancels_nothing(sweep: Sweep):
    sweep.error = SlurmError("no contact")
    with pytest.raises(Refused) as refused:
        stop_sweep(sweep.dir)
    [problem] = refused.value.problems
    assert (problem.code, problem.field, refused.value.exit_code) == ("slurm.away", "SWEEP", ExitCode.REFUSED)
    assert not any(sweep.dir.run(name).stop_request.exists() for name in sweep.names)

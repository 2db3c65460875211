"""Whether a job is over, requeued or given up, from what its attempts left and what Slurm says of it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.node import epilog
from launcher.records.runs import as_yaml
from slurm.client import SlurmError
from slurm.states import JobRecord
from tests.launcher.planning.conftest import config_with
from tests.launcher.sweep.parts import SLURM, made_sweep, sweep_plan
from tests.rows import finished
from train.failures import ExitCode
from train.journal.events import (
    AttemptBegun,
    CheckpointSaved,
    Crashed,
    GaveUp,
    Preempted,
    Requeued,
    RequeueFailed,
    Submitted,
)
from train.journal.reading import of_kind, read_journal
from train.records.base import RunEvent
from train.result import Failed, read_result, write_result
from train.rundir import STOPPED_AT_RUNG, STOPPED_BY_USER, RunDir

pytestmark = pytest.mark.usefixtures("umask")


@dataclass
class Queue:
    """Slurm as the epilog sees it."""

    state: str | None = "RUNNING"
    reason: str = "None"
    error: SlurmError | None = None
    requeued: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    def state_of(self, job_id: str) -> JobRecord | None:
        if self.state is None:
            return None
        return JobRecord(
            job_id=job_id, state=self.state, name="j", start=None, nodes="n1", reason=self.reason
        )

    def requeue(self, job_id: str, exclude: Sequence[str]) -> None:
        self.requeued.append((job_id, exclude))
        if self.error:
            raise self.error


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(epilog, "state_of", queue.state_of)
    monkeypatch.setattr(epilog, "requeue", queue.requeue)
    monkeypatch.setattr("launcher.node.epilog.signal.signal", lambda *_: None)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    return queue


def made_run(root: Path, events: Sequence[RunEvent] = (), **changes: Any) -> RunDir:
    run = RunDir(root)
    root.mkdir(parents=True)
    run.config.write_text(as_yaml(config_with({**SLURM, **changes}).model_dump(mode="json")))
    for event in (Submitted(executor="slurm", name="j"), *events):
        run.log(event)
    return run


def ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> ExitCode:
    monkeypatch.setattr(sys, "argv", ["epilog", str(root)])
    with pytest.raises(SystemExit) as left:
        epilog.main()
    assert isinstance(left.value.code, int)
    return ExitCode(left.value.code)


def begun(number: int, job_id: str = "7") -> AttemptBegun:
    return AttemptBegun(attempt=number, job_id=job_id, nodes="n1")


def saved(attempt: int, step: int) -> CheckpointSaved:
    return CheckpointSaved(attempt=attempt, step=step, bytes=1, seconds=1.0)


def stopped(attempt: int, reason: str) -> Preempted:
    return Preempted(attempt=attempt, step=3, reason=reason)


def unfit(attempt: int, host: str) -> Crashed:
    return Crashed(attempt=attempt, failure_class="node", rank=-1, host=host, reason="unfit", then="requeue")


@pytest.mark.parametrize(
    ("events", "config", "state", "requeued"),
    [
        ([begun(1)], {}, "RUNNING", True),
        ([begun(1)], {}, None, True),
        ([begun(1), stopped(1, "SIGUSR2")], {}, "RUNNING", True),
        ([begun(1), begun(2)], {}, "RUNNING", True),
        ([begun(1), saved(1, 5), begun(2), begun(3)], {}, "RUNNING", True),
        ([begun(1)], {"slurm.requeue": False}, "RUNNING", False),
        ([begun(1), stopped(1, STOPPED_BY_USER)], {}, "RUNNING", False),
        ([begun(1), stopped(1, STOPPED_AT_RUNG)], {}, "RUNNING", False),
        ([begun(1, "6"), stopped(1, STOPPED_BY_USER), begun(2)], {}, "RUNNING", True),
        ([begun(1)], {}, "CANCELLED", False),
        ([begun(1)], {}, "PREEMPTED", False),
    ],
)
def test_a_job_is_requeued_while_its_run_gets_on(
    tmp_path: Path,
    slurm: Queue,
    monkeypatch: pytest.MonkeyPatch,
    events: list[RunEvent],
    config: dict[str, Any],
    state: str | None,
    requeued: bool,
):
    slurm.state = state
    run = made_run(tmp_path / "run", events, **config)
    assert ended(run.root, monkeypatch) is ExitCode.PREEMPTED
    assert slurm.requeued == ([("7", [])] if requeued else [])
    assert len(of_kind(read_journal(run.events), Requeued)) == requeued
    assert not run.result.exists()


def test_a_time_limit_is_no_reason_to_leave_the_queue(
    tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch
):
    slurm.state, slurm.reason = "COMPLETING", "TimeLimit"
    run = made_run(tmp_path / "run", [begun(1)])
    assert ended(run.root, monkeypatch) is ExitCode.PREEMPTED
    assert slurm.requeued == [("7", [])]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (finished(), ExitCode.DONE),
        (Failed(reason="row", failure_class="data"), ExitCode.RUN_FAILED),
        (Failed(reason="disk", exit_code=ExitCode.SAVES_FAILED), ExitCode.SAVES_FAILED),
    ],
)
def test_a_run_with_a_result_ends_with_its_code(
    tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch, result: Any, code: ExitCode
):
    run = made_run(tmp_path / "run", [begun(1)])
    write_result(run, result)
    assert ended(run.root, monkeypatch) is code
    assert slurm.requeued == []


def test_attempts_without_progress_end_a_run(tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch):
    events = [begun(1), saved(1, 5), *(begun(number) for number in (2, 3, 4)), stopped(4, "SIGTERM")]
    run = made_run(tmp_path / "run", events)
    assert ended(run.root, monkeypatch) is ExitCode.NO_PROGRESS
    assert slurm.requeued == []
    [gave_up] = of_kind(read_journal(run.events), GaveUp)
    assert gave_up.reason.count(";") == 2
    result = read_result(run)
    assert isinstance(result, Failed)
    assert (result.failure_class, result.reason) == ("no_progress", gave_up.reason)


def test_unfit_nodes_are_left_out_from_now_on(tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch):
    events = [begun(1), unfit(1, "n3"), begun(2), unfit(2, "n1")]
    run = made_run(tmp_path / "run", events, **{"slurm.exclude": "n[8-9]"})
    assert ended(run.root, monkeypatch) is ExitCode.PREEMPTED
    assert slurm.requeued == [("7", ["n[8-9]", "n1", "n3"])]
    [requeued] = of_kind(read_journal(run.events), Requeued)
    assert requeued.without == ["n1", "n3"]


def test_a_job_that_slurm_does_not_requeue_has_failed(
    tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch
):
    slurm.error = SlurmError("Requeue is disabled")
    run = made_run(tmp_path / "run", [begun(1)])
    assert ended(run.root, monkeypatch) is ExitCode.RUN_FAILED
    result = read_result(run)
    assert isinstance(result, Failed)
    assert result.failure_class == "node"
    assert "Requeue is disabled" in result.reason
    assert len(of_kind(read_journal(run.events), RequeueFailed)) == 1


def test_an_element_of_an_array_is_its_trial(tmp_path: Path, slurm: Queue, monkeypatch: pytest.MonkeyPatch):
    sweep = made_sweep(sweep_plan(tmp_path / "sweep", [{"seed": 1}, {"seed": 2}], SLURM))
    names = [trial.name for trial in sweep.read().trials]
    made_run(sweep.run(names[1]).root, [begun(1, "9_1")])
    at: dict[str, str | None] = {"name": names[1]}
    monkeypatch.setattr(epilog, "task_place", lambda _: None)
    monkeypatch.setattr(epilog, "trial_at", lambda *_: at["name"])
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert ended(sweep.root, monkeypatch) is ExitCode.PREEMPTED
    assert slurm.requeued == [("9_1", [])]
    at["name"] = names[0]
    assert ended(sweep.root, monkeypatch) is ExitCode.RUN_FAILED
    at["name"] = None
    assert ended(sweep.root, monkeypatch) is ExitCode.DONE
    assert len(slurm.requeued) == 1

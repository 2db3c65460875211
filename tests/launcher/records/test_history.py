"""What the journal tells of attempts: why each ended, which brought the run on, which nodes were unfit."""

from launcher.records.history import attempts_of, stalled_attempts, unfit_nodes
from train.failures import FailureClass, Then
from train.journal.events import AttemptBegun, CheckpointSaved, Crashed, Preempted, Submitted
from train.records.base import RunEvent


def journal(*events: RunEvent) -> list[RunEvent]:
    return list(events)


def attempt(number: int) -> AttemptBegun:
    return AttemptBegun(attempt=number, job_id="7", nodes="n1")


def saved(number: int, step: int) -> CheckpointSaved:
    return CheckpointSaved(attempt=number, step=step, bytes=1, seconds=0.1)


def crashed(number: int, then: Then, kind: FailureClass = "killed", host: str = "n1") -> Crashed:
    return Crashed(attempt=number, then=then, reason="r", failure_class=kind, host=host, rank=0)


SUBMITTED = Submitted(executor="slurm", name="run.1a2b3c4d")


def test_each_attempt_has_its_end():
    stop = Preempted(attempt=1, reason="SIGTERM", step=9)
    rows = journal(SUBMITTED, attempt(1), saved(1, 9), stop, attempt(2), attempt(3), crashed(3, "restart"))
    first, second, third = attempts_of(rows)
    assert first.ended == "stopped by SIGTERM after step 9"
    assert first.progressed
    assert second.ended is None
    assert third.ended is None, "a start in place does not end an attempt"


def test_attempts_without_a_new_step_are_counted_back_from_the_last():
    rows = journal(SUBMITTED, attempt(1), saved(1, 9), attempt(2), attempt(3), saved(3, 9))
    assert [entry.number for entry in stalled_attempts(rows)] == [2, 3]
    assert stalled_attempts(journal(SUBMITTED, attempt(1), saved(1, 9))) == []


def test_a_new_submission_counts_anew():
    rows = journal(SUBMITTED, attempt(1), attempt(2), attempt(3), SUBMITTED, attempt(4))
    assert [entry.number for entry in stalled_attempts(rows)] == [4]


def test_unfit_nodes_are_remembered_by_name():
    rows = journal(SUBMITTED, attempt(1), crashed(1, "requeue", "node", "n2"), crashed(1, "restart"))
    assert unfit_nodes(rows) == ["n2"]

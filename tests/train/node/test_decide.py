"""What node 0 decides from the reports of all nodes, and why a node says that its ranks failed."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from train.failures import ExitCode, Failure, FailureClass
from train.journal.events import AskedToStop, CheckpointSaved, Crashed, Preempted, Submitted
from train.node.decide import (
    Decision,
    cause_in,
    cause_on_node,
    decide_ended,
    decide_failed,
    report_of,
    restarts_since_checkpoint,
)
from train.node.supervise import Ended
from train.records.base import RunEvent


def failure(failure_class: FailureClass, time: float = 1.0, rank: int = 0) -> Failure:
    return Failure(
        failure_class=failure_class, message=failure_class, rank=rank, host="n1", time=time, detail=""
    )


def crashed(attempt: int = 2) -> Crashed:
    return Crashed(
        attempt=attempt, failure_class="killed", rank=0, host="n1", reason="killed", then="restart"
    )


def saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(attempt=2, step=step, bytes=1, seconds=1.0)


def preempted(attempt: int) -> Preempted:
    return Preempted(attempt=attempt, step=5, reason="SIGTERM")


@pytest.mark.parametrize(
    ("failures", "found"),
    [
        ([None, None], None),
        ([None, failure("killed")], "killed"),
        ([failure("network", time=1.0), failure("killed", time=2.0)], "killed"),
        ([failure("hang", time=2.0), failure("data", time=1.0)], "data"),
        ([failure("network", time=2.0), failure("network", time=1.0)], "network"),
    ],
)
def test_the_first_cause_of_all_nodes_counts(failures: list[Failure | None], found: str | None):
    reports = json.loads(json.dumps([report_of(entry) for entry in failures]))
    cause = cause_in(reports)
    assert (cause and cause.failure_class) == found


def test_a_silent_node_is_a_failure_unless_another_one_tells_why():
    well = report_of(None)
    cause = cause_in([well, None, well, None])
    assert cause
    assert (cause.failure_class, cause.rank) == ("network", -1)
    assert "1, 3" in cause.message
    cause = cause_in([report_of(failure("killed", time=9e9)), None])
    assert cause
    assert cause.failure_class == "killed"


@pytest.mark.parametrize(
    ("failure_class", "restarts", "options", "then", "code"),
    [
        ("killed", 0, {}, "restart", ExitCode.RUN_FAILED),
        ("killed", 3, {}, "stop", ExitCode.RUN_FAILED),
        ("killed", 3, {"may_requeue": True}, "requeue", ExitCode.RUN_FAILED),
        ("killed", 0, {"stopping": True}, "stop", ExitCode.RUN_FAILED),
        ("network", 1, {"may_requeue": True, "stopping": True}, "requeue", ExitCode.RUN_FAILED),
        ("node", 0, {"may_requeue": True}, "requeue", ExitCode.RUN_FAILED),
        ("data", 0, {"may_requeue": True}, "stop", ExitCode.RUN_FAILED),
        ("saves_failed", 0, {"may_requeue": True}, "stop", ExitCode.SAVES_FAILED),
        ("no_checkpoint", 0, {}, "stop", ExitCode.NO_USABLE_CHECKPOINT),
    ],
)
def test_what_follows_a_failure(
    failure_class: FailureClass, restarts: int, options: dict[str, bool], then: str, code: ExitCode
):
    journal = [crashed()] * restarts
    settings = {"may_requeue": False, "stopping": False, **options}
    decision = decide_failed(failure(failure_class), journal, attempt=2, **settings)
    assert (decision.then, decision.code) == (then, code)
    assert Decision.from_row(json.loads(json.dumps(decision.as_row()))) == decision


@pytest.mark.parametrize(
    ("journal", "restarts"),
    [
        ([], 0),
        ([crashed(), crashed()], 2),
        ([crashed(1), crashed(2)], 1),
        ([crashed(), saved(5), crashed()], 1),
        ([crashed(), saved(5)], 0),
        ([crashed(), Submitted(executor="slurm", name="job")], 0),
        ([crashed(), preempted(2)], 1),
    ],
)
def test_restarts_count_since_the_last_checkpoint(journal: list[RunEvent], restarts: int):
    assert restarts_since_checkpoint(journal, 2) == restarts


@pytest.mark.parametrize(
    ("journal", "code"),
    [
        ([], ExitCode.DONE),
        ([preempted(1)], ExitCode.DONE),
        ([preempted(2)], ExitCode.PREEMPTED),
        ([preempted(1), preempted(2), saved(5)], ExitCode.PREEMPTED),
        ([AskedToStop(reason="SIGTERM", pid=1)], ExitCode.DONE),
    ],
)
def test_ranks_that_ended_well_were_finished_or_stopped(journal: Sequence[RunEvent], code: ExitCode):
    assert decide_ended(journal, attempt=2) == Decision(None, code)


@pytest.mark.parametrize(
    ("codes", "written", "failure_class", "rank"),
    [
        ({}, [], "network", -1),
        ({1: -9}, [], "killed", 1),
        ({1: 1}, [], "killed", 1),
        ({0: 1, 1: -9}, [], "killed", 1),
        ({0: 1}, [failure("data", rank=0)], "data", 0),
        ({0: 1, 1: -9}, [failure("data", rank=0)], "data", 0),
        ({0: 1, 1: -9}, [failure("network", rank=0)], "killed", 1),
        ({0: 1}, [failure("network", rank=0)], "network", 0),
        ({}, [failure("network", rank=3)], "network", 3),
        ({}, [failure("network", time=1.0, rank=3), failure("hang", time=2.0, rank=2)], "hang", 2),
    ],
)
def test_why_the_ranks_of_a_node_failed(
    codes: dict[int, int], written: list[Failure], failure_class: str, rank: int
):
    cause = cause_on_node(Ended(codes, killed_here=True), written)
    assert (cause.failure_class, cause.rank) == (failure_class, rank)


def test_the_signal_and_the_exit_code_are_named():
    nothing: list[Any] = []
    assert "SIGKILL" in cause_on_node(Ended({1: -9}, killed_here=False), nothing).message
    assert "17" in cause_on_node(Ended({1: 17}, killed_here=False), nothing).message

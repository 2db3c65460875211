"""What Slurm says of jobs, in words; and whether a job goes back into the queue."""

import pytest

from slurm.client import is_away
from slurm.requeue import Ending, GiveUp, Leave, Requeue, decide
from slurm.states import newest, parse_jobs, why_ended, why_waiting

LINE = "12|PENDING|demo-1.ab|2026-11-24T10:00:00|None assigned|(QOSMaxGRESPerUser)"


def test_a_waiting_job_in_words():
    [job] = parse_jobs(LINE)
    assert (job.job_id, job.phase, job.nodes) == ("12", "waiting", "")
    assert why_waiting(job) == (
        "you have reached your limit in this qos (QOSMaxGRESPerUser); expected to start 2026-11-24 10:00:00"
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "jobs with higher priority are ahead of it (Priority)"),
        ("ReqNodeNotAvail, UnavailableNodes:n3", "nodes that it requires are down, drained or reserved"),
        ("AssocGrpGRESMinutes", "the account has reached its limit for all users together"),
        ("SomethingNew", "pending for another reason (SomethingNew)"),
    ],
)
def test_reasons(reason: str, words: str):
    [job] = parse_jobs(f"1|PENDING|n|N/A||{reason}")
    assert why_waiting(job).startswith(words)


def test_states_have_phases():
    states = {"PENDING": "waiting", "COMPLETING": "active", "CANCELLED by 0": "ended", "NODE_FAIL": "ended"}
    for state, phase in states.items():
        assert parse_jobs(f"1|{state}|n|N/A||")[0].phase == phase
    assert "memory" in why_ended("OUT_OF_MEMORY")
    assert "NEW_STATE" in why_ended("NEW_STATE")


def test_the_newest_job_of_a_name_counts():
    lines = "9|FAILED|a|N/A||\n11|RUNNING|a|N/A||\n10|FAILED|a|N/A||\nslurm_load: noise"
    assert newest(parse_jobs(lines))["a"].job_id == "11"


def test_an_absent_controller_is_told_from_a_refusal():
    assert is_away("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect")
    assert is_away("slurm_load_jobs error: Socket timed out on send/recv operation")
    assert not is_away("sbatch: error: invalid partition specified: nope")


FRESH = {
    "over": False,
    "stopped_for_good": False,
    "taken_away": False,
    "stalled": 0,
    "reasons": (),
    "may_requeue": True,
}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, Requeue),
        ({"over": True}, Leave),
        ({"stopped_for_good": True}, Leave),
        ({"taken_away": True}, Leave),
        ({"may_requeue": False}, Leave),
        ({"stalled": 2}, Requeue),
        ({"stalled": 3, "reasons": ("a", "b", "c")}, GiveUp),
        ({"stalled": 3, "over": True}, Leave),
    ],
)
def test_who_goes_back_into_the_queue(change: dict[str, object], kind: type):
    assert isinstance(decide(Ending(**{**FRESH, **change})), kind)

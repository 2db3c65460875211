"""What status says of a directory, whatever state a run was left in."""

import json
import time
from pathlib import Path

import pytest

from launcher.errors import Refused
from launcher.node.entry import claim_attempt
from launcher.records.jobs import Intent, append_row, record_intent
from launcher.records.runs import all_runs, find_run
from launcher.status.logs import log_files
from launcher.status.runs import read_status
from slurm.environment import TaskPlace
from tests.rows import finished, metrics_row
from train.journal.events import Cancelled, Crashed, Preempted, Started, Submitted
from train.journal.reading import attempts_in, read_journal
from train.metrics import log_metrics
from train.result import write_result
from train.rundir import RunDir

DEAD = {"time": 0.0, "job_id": "1", "name": None, "executor": "local", "started": 0.0}
SUBMITTED = Submitted(executor="local", host="here")


def make_run(root: Path, name: str = "r-1234") -> RunDir:
    run = RunDir(root / name)
    run.logs.mkdir(parents=True)
    run.plan.write_text(json.dumps({"time": {"total_steps": 40}}))
    return run


def place(start: str, node: int = 0) -> TaskPlace:
    return TaskPlace(
        job_id=start, node=node, nodes=2, start=start, node_name=None, node_list=None, job_name=None
    )


def dead_job(run: RunDir) -> None:
    import os

    run.jobs.write_text(json.dumps({**DEAD, "host": os.uname().nodename}) + "\n")


def test_a_run_that_died_without_a_word_can_be_resumed(runs: Path):
    run = make_run(runs)
    dead_job(run)
    run.log(SUBMITTED)
    log_metrics(run, metrics_row(17))
    with run.metrics.open("a") as file:
        file.write('{"step": 18, "lo')
    status = read_status(run)
    assert (status.state, status.step, status.total_steps) == ("FAILED", 17, 40)
    assert "run: shardline resume" in status.why


def test_preempted_cancelled_failed_and_completed(runs: Path):
    run = make_run(runs)
    dead_job(run)
    run.log(SUBMITTED)
    run.log(Preempted(attempt=1, step=9, reason="SIGUSR2"))
    assert read_status(run).state == "PREEMPTED"
    assert read_status(run).why == "stopped by SIGUSR2 after step 9"
    run.log(Cancelled(job_id="1"))
    assert read_status(run).state == "CANCELLED"
    run.log(SUBMITTED)
    run.result.write_text(json.dumps({"outcome": "FAILED", "why": "no such thing"}))
    assert (read_status(run).state, read_status(run).why) == ("FAILED", "no such thing")
    write_result(run, finished())
    assert read_status(run).state == "COMPLETED"


def test_a_start_that_was_cut_short_is_pending_for_a_while_only(runs: Path):
    run = make_run(runs)
    assert read_status(run).state == "FAILED"
    record_intent(run, "local", None)
    assert read_status(run).state == "PENDING"
    run.jobs.unlink()
    append_row(run.jobs, Intent(time=time.time() - 600, executor="local", name=None))
    assert (read_status(run).state, read_status(run).why) == (
        "FAILED",
        "submission was interrupted; run: shardline resume",
    )


def test_one_unreadable_run_hides_no_other(runs: Path):
    make_run(runs, "good-1").log(SUBMITTED)
    (runs / "foreign").mkdir()
    (runs / "foreign" / "plan.json").write_text("{}")
    states = {status.run: status.why for status in map(read_status, all_runs(runs))}
    assert states["foreign"].startswith("cannot read the run directory: RecordError")
    assert "never started" in states["good-1"]


def test_restarts_in_place_are_counted_apart_from_attempts(runs: Path):
    run = make_run(runs)
    run.log(Started(attempt=2, world_size=2, total_steps=41))
    run.log(Crashed(attempt=2, failure_class="killed", rank=0, host="here", reason="x", then="restart"))
    status = read_status(run)
    assert (status.attempt, status.restarts, status.total_steps) == (2, 1, 41)


def test_runs_are_found_by_the_start_of_their_name(runs: Path):
    make_run(runs, "alpha-1")
    make_run(runs, "alpha-2")
    make_run(runs, "beta-1")
    assert find_run("beta").root.name == "beta-1"
    assert find_run(str(runs / "alpha-2")).root.name == "alpha-2"
    with pytest.raises(Refused, match="matches more than one run"):
        find_run("alpha")
    with pytest.raises(Refused, match="unknown run 'gamma'"):
        find_run("gamma")


def test_a_half_made_directory_is_no_run(runs: Path):
    make_run(runs, ".alpha-1.99.new")
    assert all_runs(runs) == []


def test_attempts_are_numbered_once_per_start(runs: Path):
    run = make_run(runs)
    assert claim_attempt(run, place("7")) == 1
    assert claim_attempt(run, place("7", node=1)) == 1
    assert claim_attempt(run, place("8")) == 2
    assert attempts_in(read_journal(run.events)) == [1, 2]
    assert sorted(path.name for path in run.logs.iterdir()) == ["attempt_1", "attempt_2"]


def test_logs_name_what_there_is(runs: Path):
    run = make_run(runs)
    with pytest.raises(Refused, match="it has not started"):
        log_files(run, None, None)
    claim_attempt(run, place("7"))
    (run.attempt_logs(1) / "rank_0.log").write_text("hello\n")
    assert [file.label for file in log_files(run, 1, 0)] == ["rank 0"]
    with pytest.raises(Refused, match="unknown attempt 3"):
        log_files(run, 3, None)
    with pytest.raises(Refused, match="unknown rank 5"):
        log_files(run, 1, 5)

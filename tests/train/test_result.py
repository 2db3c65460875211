"""result.json, metrics.jsonl and jobs.jsonl: written and read through one type each, old files included."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.records.jobs import Intent, Job, read_jobs, record_intent, record_job
from launcher.records.plans import read_planned_length
from launcher.records.sweeps import ArrayJob, SweepDir
from tests.rows import finished, metrics_row
from train.evaluate.assessment import Answered, Assessment, read_assessment, write_assessment
from train.failures import ExitCode
from train.job import read_training_plan
from train.journal.parts import DataReport
from train.metrics import TraceRow, log_metrics, log_trace, read_metrics, read_trace
from train.records.base import RecordError
from train.result import (
    AnswerPair,
    BestCheckpoint,
    Evaluation,
    Failed,
    Finished,
    SetScores,
    finished_result,
    read_result,
    require_finished,
    result_row,
    write_result,
)
from train.rundir import RunDir

SCORES = SetScores(set="test", rows=64, tokens=7899, loss=6.9, perplexity=1036.9)
WHOLE = finished(
    ended_early="the last 3 validations were no better",
    data=DataReport(
        rows=416, overlong="cut", overlong_rows=51, documents=416, sequences=416, tokens=76274, fill=None
    ),
    goodput={"steps": 0.4, "start": 0.5, "save": 0.05, "evaluate": 0.03, "lost": 0.02},
    best=BestCheckpoint(step=36, validation_loss=6.8),
    evaluation=Evaluation(base={"task": SCORES}, tuned={"task": SCORES, "general": SCORES}),
    answers=[AnswerPair(question="q", reference=None, base="b", tuned="t")],
)
KEYS = [
    "outcome",
    "step",
    "total_steps",
    "ended_early",
    "data",
    "samples",
    "tokens",
    "attempts",
    "restarts",
    "job_id",
    "seconds_since_first_submit",
    "allocated_s",
    "rank_hours",
    "goodput",
    "tokens_per_s",
    "best",
    "evaluated_step",
    "evaluation",
    "answers",
    "export",
    "peak_rss_gb_per_rank",
]
OLD: dict[str, Any] = {
    "outcome": "COMPLETED",
    "step": 6,
    "total_steps": 6,
    "samples": 48,
    "tokens": 8611,
    "attempts": 1,
    "restarts": 0,
    "job_id": "5374",
    "seconds_since_first_submit": 12.4,
    "allocated_s": 11.8,
    "rank_hours": 0.0065,
    "tokens_per_s": 19408.8,
    "best": {"step": 6, "validation_loss": 6.730336541061186},
    "evaluated_step": 6,
    "evaluation": {
        "base": {},
        "tuned": {
            "task": {
                "set": "test",
                "rows": 64,
                "tokens": 7899,
                "loss": None,
                "perplexity": None,
                "accuracy": None,
                "macro_f1": None,
            }
        },
    },
    "answers": [],
    "export": "/runs/r/export",
    "peak_rss_gb_per_rank": [0.53, 0.531],
}
"""As a version wrote it that knew neither ended_early nor data nor goodput; the loss was not finite."""


def write(run: RunDir, value: Any) -> None:
    run.result.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "result",
    [
        WHOLE,
        Failed(
            reason="no GPU", exit_code=ExitCode.NO_PROGRESS, failure_class="no_progress", attempts=3, time=1.5
        ),
        Failed(reason="Slurm did not accept the job", exit_code=ExitCode.REFUSED, time=1.5),
    ],
)
def test_a_result_comes_back_as_it_was_written(tmp_path: Path, result: Finished | Failed):
    run = RunDir(tmp_path)
    assert read_result(run) is None
    write_result(run, result)
    assert read_result(run) == result


def test_the_keys_that_scripts_read_stay(tmp_path: Path):
    run = RunDir(tmp_path)
    write_result(run, WHOLE)
    assert list(json.loads(run.result.read_text())) == KEYS
    write_result(run, Failed(reason="no GPU", failure_class="node", attempts=2))
    row = json.loads(run.result.read_text())
    assert row.pop("time") > 0
    assert row == {
        "outcome": "FAILED",
        "why": "no GPU",
        "exit_code": 4,
        "failure_class": "node",
        "attempts": 2,
    }


def test_results_of_earlier_versions_are_read(tmp_path: Path):
    run = RunDir(tmp_path)
    write(run, OLD)
    result = require_finished(run)
    assert (result.ended_early, result.data, result.goodput) == (None, None, None)
    assert result.evaluation.tuned["task"].measures == {}
    assert result_row(result) == {**OLD, "ended_early": None, "data": None, "goodput": None}
    write(run, {"outcome": "FAILED", "why": "it broke"})
    assert read_result(run) == Failed(reason="it broke", exit_code=ExitCode.RUN_FAILED)
    assert finished_result(run) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**OLD, "outcome": "DONE"}, "unknown outcome 'DONE'; known: COMPLETED, FAILED"),
        ({key: value for key, value in OLD.items() if key != "step"}, "result.json: missing field step"),
        ({**OLD, "steps": 6}, "unknown field 'steps'"),
        ({**OLD, "best": {"step": 6}}, "best: BestCheckpoint: missing field validation_loss"),
        ([], "list instead of a JSON object"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, value: Any, message: str):
    run = RunDir(tmp_path)
    write(run, value)
    with pytest.raises(RecordError) as refused:
        read_result(run)
    assert message in str(refused.value)


def test_a_failed_run_has_no_verdict_to_show(tmp_path: Path):
    run = RunDir(tmp_path)
    write_result(run, Failed(reason="it broke"))
    with pytest.raises(RecordError, match="missing or is the result of a failed run"):
        require_finished(run)


def test_an_assessment_comes_back_as_it_was_written(tmp_path: Path):
    run = RunDir(tmp_path)
    assert read_assessment(run, "base") is None
    found = Assessment(scores={"task": SCORES}, answers=[Answered(question="q", reference="r", answer="a")])
    write_assessment(run, "base", found)
    assert read_assessment(run, "base") == found
    assert json.loads((run.evaluations / "base.json").read_text()).keys() == {"task", "answers"}


def test_rows_of_metrics_and_of_the_trace_come_back_as_they_were_written(tmp_path: Path):
    run = RunDir(tmp_path)
    rows = [metrics_row(1, None), metrics_row(2, mfu=0.4, time_save_s=0.5, memory_gb=1.0)]
    for row in rows:
        log_metrics(run, row)
    assert read_metrics(run) == rows
    first, second = (json.loads(line) for line in run.metrics.read_text().splitlines())
    assert first["loss"] is None
    assert "mfu" not in first
    assert list(second)[:3] == ["attempt", "step", "loss"]
    log_trace(run, TraceRow(attempt=1, step=1, sample_ids=[3, 1], random=0.5))
    assert read_trace(run) == [TraceRow(attempt=1, step=1, sample_ids=[3, 1], random=0.5)]


def test_a_row_of_metrics_without_a_step_is_refused(tmp_path: Path):
    run = RunDir(tmp_path)
    log_metrics(run, metrics_row(1))
    with run.metrics.open("a") as file:
        file.write('{"attempt": 1, "loss": 1.0}\n')
    with pytest.raises(RecordError, match=r"metrics\.jsonl:2: missing field grad_norm, lr, "):
        read_metrics(run)


def test_jobs_come_back_with_what_tells_them_apart(tmp_path: Path):
    run = RunDir(tmp_path)
    record_intent(run, "slurm", "r.1a2b")
    record_job(run, "71", "r.1a2b")
    record_job(run, str(os.getpid()), None)
    intent, queued, here = read_jobs(run)
    assert isinstance(intent, Intent)
    assert isinstance(queued, Job)
    assert (queued.job_id, queued.name, queued.executor, queued.is_here) == ("71", "r.1a2b", "slurm", False)
    assert isinstance(here, Job)
    assert here.is_here
    assert here.started is not None
    with run.jobs.open("a") as file:
        file.write('{"time": 1.0, "name": null}\n')
    with pytest.raises(RecordError, match=r"jobs\.jsonl:4: unknown kind of row; it needs one of these keys"):
        read_jobs(run)


def test_the_jobs_of_a_sweep_tell_slices_jobs_and_losses_apart(tmp_path: Path):
    sweep = SweepDir(tmp_path)
    portion = ArrayJob(
        time=1.0, executor="slurm", name="s.1", trials=["a", "b"], rung=None, chain=None, places=2
    )
    sweep.record_array(portion)
    sweep.record_job(Job(job_id="1001", name="s.1"))
    sweep.record_lost("s.2", "QOSMaxSubmitJobPerUserLimit")
    assert sweep.arrays() == [portion]
    assert {name: job.job_id for name, job in sweep.array_jobs().items()} == {"s.1": "1001"}
    assert sweep.lost() == {"s.2"}
    # As written before jobs had a type: without an executor under Slurm.
    sweep.jobs.write_text('{"time": 1.0, "name": "s.1", "job_id": "1001"}\n')
    assert sweep.array_jobs()["s.1"].executor == "slurm"


def test_a_plan_without_the_part_that_is_asked_for_is_refused(tmp_path: Path):
    run = RunDir(tmp_path)
    run.plan.write_text('{"time": {"total_steps": 40}}')
    assert read_planned_length(run).total_steps == 40
    with pytest.raises(RecordError, match=r"plan\.json: missing field training"):
        read_training_plan(run)
    run.plan.write_text("{}")
    with pytest.raises(RecordError, match=r"plan\.json: missing field time\.total_steps"):
        read_planned_length(run)

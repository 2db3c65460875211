"""The end of a run: the best checkpoint is loaded, assessed and exported, and the result says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.rank.parts import Bench
from train.checkpoint.progress import Progress
from train.evaluate.assessment import Answered, Assessment, write_assessment
from train.journal.events import Started, Submitted
from train.journal.parts import DataReport
from train.rank.finish import RunEnd
from train.result import SetScores
from train.rundir import read_lines

REPORT = DataReport(
    rows=8, overlong="truncate", overlong_rows=1, documents=8, sequences=8, tokens=80, fill=None
)


def scores(loss: float) -> SetScores:
    return SetScores(set="test", rows=4, tokens=40, loss=loss)


def answered(text: str) -> list[Answered]:
    return [Answered(question="why?", reference="so", answer=text)]


TUNED = Assessment(scores={"task": scores(1.0)}, answers=answered("because"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("train.rank.finish.export_model", lambda *_: None)
    bench = Bench(tmp_path)
    bench.run_dir.log(Submitted(executor="local"))
    bench.run_dir.log(Started(attempt=1, world_size=1, total_steps=4, restart=0))
    return bench


def end(bench: Bench, tuned: Assessment, best_step: int = 4) -> RunEnd:
    class Assessor:
        def once(self, name: str) -> Assessment:
            assert name == "tuned"
            return tuned

    class Restorer:
        def load_best(self, engine: Any, progress: Progress) -> int:
            return best_step

    parts: dict[str, Any] = {
        "assessor": Assessor(),
        "restorer": Restorer(),
        "saver": bench.checkpoints,
        "engine": bench.engine,
        "tracker": bench.tracker,
    }
    return RunEnd(
        run_dir=bench.run_dir,
        attempt=1,
        group=bench.group,
        tokenizer=None,
        phases=bench.phases,
        report=REPORT,
        total_steps=4,
        **parts,
    )


def test_the_result_holds_both_models_and_the_step_that_was_assessed(bench: Bench):
    base = Assessment(scores={"task": scores(3.0)}, answers=answered("?"))
    write_assessment(bench.run_dir, "base", base)
    end(bench, TUNED, best_step=3).finish(Progress(step=4, samples=8, tokens=80, best_loss=1.5, best_step=3))
    result = json.loads(bench.run_dir.result.read_text())
    assert (result["outcome"], result["step"], result["evaluated_step"]) == ("COMPLETED", 4, 3)
    assert result["best"] == {"step": 3, "validation_loss": 1.5}
    assert result["ended_early"] is None
    assert result["answers"] == [{"question": "why?", "reference": "so", "base": "?", "tuned": "because"}]
    losses = {model: sets["task"]["loss"] for model, sets in result["evaluation"].items()}
    assert losses == {"base": 3.0, "tuned": 1.0}
    assert bench.tracker.summary == {"base/task/loss": 3.0, "tuned/task/loss": 1.0}
    assert [row["event"] for row in read_lines(bench.run_dir.events)][-1] == "finished"


def test_a_run_that_ended_early_says_why_in_result_and_journal(bench: Bench):
    end(bench, Assessment(scores={})).finish(
        Progress(step=2, best_step=1, best_loss=2.0, stale_validations=1)
    )
    result = json.loads(bench.run_dir.result.read_text())
    assert "eval.patience" in result["ended_early"]
    [early] = [row for row in read_lines(bench.run_dir.events) if row["event"] == "ended_early"]
    assert early["reason"] == result["ended_early"]


def test_without_a_base_assessment_there_is_nothing_to_compare_with(bench: Bench):
    end(bench, TUNED).finish(Progress(step=4))
    result = json.loads(bench.run_dir.result.read_text())
    assert result["evaluation"]["base"] == {}
    assert result["answers"][0]["base"] is None

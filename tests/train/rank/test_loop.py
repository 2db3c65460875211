"""The loop on a fake engine: steps, observers, boundaries, saves, returns and stops."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train.rank.parts import Bench
from train.checkpoint.progress import Progress, Resumed, Topology
from train.failures import UserError
from train.journal.events import RolledBack
from train.observer import StepDone, StepObserver
from train.rank.loop import Outcome, TrainingLoop, run
from train.rundir import STOPPED_AT_RUNG, STOPPED_BY_USER, read_lines


def events(bench: Bench, kind: str) -> list[dict[str, Any]]:
    return [row for row in read_lines(bench.run_dir.events) if row["event"] == kind]


def train(bench: Bench) -> TrainingLoop:
    loop = TrainingLoop(bench.parts, bench.parts.checkpoints.resume())
    assert loop.run()
    return loop


class Watcher(StepObserver):
    """Notes when it is called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def before(self, step: int) -> None:
        self.calls.append(f"{self.name} before {step}")

    def after(self, done: StepDone) -> None:
        self.calls.append(f"{self.name} after {done.step} of {done.size.tokens}")

    def close(self) -> None:
        self.calls.append(f"{self.name} close")


def test_observers_nest_around_each_step_and_are_closed_once(tmp_path: Path):
    calls: list[str] = []
    bench = Bench(tmp_path, steps=1, observers=(Watcher("outer", calls), Watcher("inner", calls)))
    train(bench)
    assert calls == [
        "outer before 1",
        "inner before 1",
        "inner after 1 of 2",
        "outer after 1 of 2",
        "inner close",
        "outer close",
    ]


def test_every_document_is_trained_once_and_counted(tmp_path: Path):
    bench = Bench(tmp_path, steps=4, batch_size=2)
    loop = train(bench)
    assert sorted(document for batch in bench.engine.batches for document in batch) == [*range(8)]
    assert bench.engine.micro_steps == 4, "one before each boundary, with two micro-batches"
    assert (loop.progress.step, loop.progress.samples, loop.progress.tokens) == (4, 8, 8)
    assert loop.progress.loss == pytest.approx(2.0)
    assert [row.step for row in bench.tracker.rows] == [1, 2, 3, 4]
    assert bench.heart.number.value == 4


def test_a_resumed_run_takes_the_batches_that_are_left(tmp_path: Path):
    for name in ("whole", "half"):
        (tmp_path / name).mkdir()
    whole = Bench(tmp_path / "whole", steps=4)
    train(whole)
    half = Bench(tmp_path / "half", steps=4, found=Resumed(Progress(step=2, samples=4, tokens=4)))
    loop = train(half)
    assert half.engine.batches == whole.engine.batches[4:]
    assert loop.progress.samples == 8


def test_checkpoints_are_saved_when_due_and_at_the_end_once(tmp_path: Path):
    bench = Bench(tmp_path, steps=5, checkpoint={"every_steps": 2})
    train(bench)
    assert bench.checkpoints.saved == [2, 4, 5]
    assert events(bench, "trained")[0]["step"] == 5


def test_validations_save_what_is_better_and_end_what_is_not(tmp_path: Path):
    bench = Bench(tmp_path, steps=9, evaluate={"every_steps": 1, "patience": 2})
    bench.validation.__init__(3.0, 2.0, 2.5, 2.4)  # type: ignore[misc]
    loop = train(bench)
    assert bench.validation.steps == [1, 2, 3, 4]
    assert (loop.progress.best_step, loop.progress.stale_validations) == (2, 2)
    assert bench.checkpoints.saved == [1, 2, 4], "the newest checkpoint holds the end that it led to"


@pytest.mark.parametrize("by_user", [True, False])
def test_a_stop_saves_what_is_new_and_names_who_asked(tmp_path: Path, by_user: bool):
    bench = Bench(tmp_path, steps=4, found=Resumed(Progress(step=1)))
    bench.stop.reason = "SIGTERM"
    if by_user:
        bench.run_dir.stop_request.touch()
    end: Any = None
    assert run(bench.parts, end) is Outcome.PREEMPTED
    assert bench.checkpoints.saved == [], "the checkpoint that it resumed from is the newest"
    [stopped] = events(bench, "preempted")
    assert (stopped["step"], stopped["reason"]) == (1, STOPPED_BY_USER if by_user else "SIGTERM")
    assert bench.tracker.summary == {"stopped_at_step": 1}
    assert [row["phase"] for row in events(bench, "phase")] == ["restore", "train", "save"]


def test_a_stop_between_two_steps_saves_the_newest(tmp_path: Path):
    class StopAfterTwo(StepObserver):
        def after(self, done: StepDone) -> None:
            if done.step == 2:
                bench.stop.reason = "SIGUSR2"

    bench = Bench(tmp_path, steps=4, observers=(StopAfterTwo(),))
    end: Any = None
    assert run(bench.parts, end) is Outcome.PREEMPTED
    assert bench.checkpoints.saved == [2]


def test_a_run_pauses_at_its_rung_after_a_validation(tmp_path: Path):
    bench = Bench(tmp_path, steps=4)
    bench.run_dir.pause.write_text("3")
    end: Any = None
    assert run(bench.parts, end) is Outcome.PREEMPTED
    assert bench.validation.steps == [3]
    assert bench.checkpoints.saved == [3]
    assert events(bench, "preempted")[0]["reason"] == STOPPED_AT_RUNG


def test_bad_batches_are_left_out_after_going_back(tmp_path: Path):
    bench = Bench(
        tmp_path,
        steps=8,
        batch_size=1,
        documents=20,
        train={"bad_steps": 2},
        checkpoint={"every_steps": 2},
    )
    order = [int(number) for number in bench.parts.trainer.sampler.order.epoch(0)]
    bench.engine.bad_batches = {order[2], order[3]}
    loop = train(bench)
    [back] = events(bench, "rollback")
    assert (back["step"], back["to_step"], back["skipped"]) == (4, 2, [3, 4])
    assert [row["step"] for row in events(bench, "bad_step")] == [3, 4]
    assert loop.progress.step == 8
    assert bench.engine.batches[4:8] == [[number] for number in order[4:8]]
    assert bench.checkpoints.saved == [2, 4, 6, 8], "none in the middle of bad steps"


def test_a_run_that_diverges_before_any_checkpoint_fails(tmp_path: Path):
    bench = Bench(tmp_path, steps=4, batch_size=1, train={"bad_steps": 1})
    bench.engine.bad_batches = {0, 1, 2, 3}
    with pytest.raises(UserError, match=r"diverged at step 1.*there is no earlier checkpoint"):
        train(bench)


def test_windows_that_earlier_attempts_left_out_stay_out(tmp_path: Path):
    bench = Bench(tmp_path, steps=6, batch_size=1)
    bench.run_dir.log(RolledBack(attempt=1, step=2, to_step=1, skipped=(1, 2), reason=""))
    order = [int(number) for number in bench.parts.trainer.sampler.order.epoch(0)]
    train(bench)
    assert bench.engine.batches[:4] == [[number] for number in order[2:6]]


@pytest.mark.parametrize(("loss", "fails"), [(3.4, False), (3.6, True)])
def test_a_converted_checkpoint_must_go_on_at_its_loss(tmp_path: Path, loss: float, fails: bool):
    before = Topology(world_size=2, zero_stage=2, precision="fp32")
    found = Resumed(Progress(step=1, loss=2.0), converted_from=before)
    bench = Bench(tmp_path, steps=2, found=found)
    bench.engine.losses = {2: loss}
    if fails:
        with pytest.raises(RuntimeError, match=r"the loss rose from 2\.000 to 3\.600"):
            train(bench)
    else:
        train(bench)


def test_metrics_are_written_at_every_nth_step_and_the_last(tmp_path: Path):
    bench = Bench(tmp_path, steps=5, train={"log_every_steps": 2})
    train(bench)
    assert [row.step for row in bench.tracker.rows] == [2, 4, 5]
    assert all(row.loss is not None and math.isfinite(row.loss) for row in bench.tracker.rows)


def test_a_run_that_has_all_its_steps_goes_straight_to_its_end(tmp_path: Path):
    bench = Bench(tmp_path, steps=2, found=Resumed(Progress(step=2)))
    finished: list[int] = []
    end: Any = SimpleNamespace(finish=lambda progress: finished.append(progress.step))
    assert run(bench.parts, end) is Outcome.COMPLETED
    assert finished == [2]
    assert [row["step"] for row in events(bench, "resumed")] == [2]

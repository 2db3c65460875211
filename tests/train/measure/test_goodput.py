"""What the time of the ranks went into, on journals made by hand: one second is one second."""

import pytest

from tests.rows import metrics_row
from train.failures import Then
from train.journal.events import (
    AttemptBegun,
    AttemptEvent,
    Crashed,
    PhaseBegun,
    Preempted,
    RolledBack,
    RunFinished,
    Started,
    Submitted,
    Trained,
    TrainingResumed,
)
from train.journal.phases import Phase
from train.measure.goodput import goodput, use_of
from train.metrics import MetricsRow
from train.records.base import RunEvent


def phase(time: float, name: Phase, attempt: int = 1) -> PhaseBegun:
    return PhaseBegun(time=time, attempt=attempt, phase=name)


def begin(time: float, attempt: int, *, resumed: int | None = None, ranks: int = 2) -> list[AttemptEvent]:
    """Ten seconds of start."""
    went_on = [TrainingResumed(time=time + 9, attempt=attempt, step=resumed)] if resumed else []
    return [
        AttemptBegun(time=time, attempt=attempt, job_id="7", nodes=None),
        phase(time + 4, Phase.LOAD_MODEL, attempt),
        Started(time=time + 5, attempt=attempt, world_size=ranks, total_steps=100),
        *went_on,
        phase(time + 10, Phase.TRAIN, attempt),
    ]


def row(time: float, step: int, seconds: float, attempt: int = 1) -> MetricsRow:
    return metrics_row(step, time=time, attempt=attempt, time_forward_s=seconds)


def trained(time: float, step: int, attempt: int = 1, **more: float) -> Trained:
    return Trained(time=time, step=step, attempt=attempt, **more)


def crash(time: float, then: Then) -> Crashed:
    return Crashed(
        time=time, attempt=1, failure_class="killed", rank=0, host="here", reason="SIGKILL", then=then
    )


def finish(time: float, attempt: int) -> RunFinished:
    return RunFinished(time=time, attempt=attempt, step=9)


def shares(events: list[RunEvent], rows: list[MetricsRow], now: float) -> dict[str, float]:
    found = goodput(events, rows, now)
    assert found
    assert sum(found.shares.values()) == pytest.approx(1.0)
    return found.shares


def test_nothing_is_known_before_the_first_attempt():
    assert goodput([Submitted(time=1.0, executor="local")], [], 9.0) is None


def test_every_second_of_an_unbroken_run_is_accounted_for():
    events = [
        Submitted(time=0.0, executor="local"),
        *begin(100, 1)[:-1],
        phase(108, Phase.ASSESS_BASE),
        phase(110, Phase.TRAIN),
        trained(190, 8, time_save_s=1.0, time_evaluate_s=3.0),
        phase(190, Phase.SAVE),
        phase(192, Phase.ASSESS_TUNED),
        phase(196, Phase.EXPORT),
    ]
    rows = [row(110 + 9 * step, step, 8.0) for step in range(1, 9)]
    found = shares(events, rows, now=200.0)
    expected = {"steps": 64, "start": 8, "save": 1 + 2 + 4, "evaluate": 2 + 3 + 4, "lost": 12}
    assert found == pytest.approx({use: seconds / 100 for use, seconds in expected.items()})


def test_steps_that_were_made_again_after_a_kill_are_lost():
    """Saved at 3, killed after 5: steps 4 and 5 of the first attempt were in vain."""
    events = [
        *begin(0, 1),
        crash(60, "requeue"),
        *begin(1000, 2, resumed=3),
        finish(1050, 2),
    ]
    rows = [row(10 + 10 * step, step, 10.0) for step in range(1, 6)]
    rows += [row(1010 + 10 * (step - 3), step, 10.0, attempt=2) for step in range(4, 8)]
    found = shares(events, rows, now=1050.0)
    held = 60 + 50
    assert found["steps"] == pytest.approx((3 + 4) * 10 / held)
    assert found["lost"] == pytest.approx(2 * 10 / held)
    assert found["start"] == pytest.approx(20 / held)


def test_a_row_of_several_steps_counts_as_far_as_they_were_kept():
    """A row every ten steps; the checkpoint that the second attempt went on from is that of step 25."""
    events = [*begin(0, 1), *begin(1000, 2, resumed=25), finish(1015, 2)]
    rows = [row(20, 10, 10.0), row(30, 20, 10.0), row(40, 30, 10.0), row(1015, 30, 5.0, attempt=2)]
    found = shares(events, rows, now=1015.0)
    assert found["steps"] == pytest.approx((25 + 5) / (40 + 15))


def test_without_a_checkpoint_all_steps_of_an_attempt_are_lost():
    events = [*begin(0, 1), *begin(100, 2), finish(120, 2)]
    rows = [row(20, 1, 10.0), row(30, 2, 10.0), row(120, 1, 10.0, attempt=2)]
    assert shares(events, rows, now=120.0)["steps"] == pytest.approx(10 / (30 + 20))


def test_a_start_in_place_is_a_start_and_a_return_past_bad_batches_loses_steps():
    events = [
        *begin(0, 1),
        crash(20, "restart"),
        phase(23, Phase.LOAD_MODEL),
        phase(30, Phase.TRAIN),
        RolledBack(time=50.5, attempt=1, step=2, to_step=1, skipped=(2, 2), reason="NaN"),
        finish(60, 1),
    ]
    rows = [row(40, 1, 10.0), row(50, 2, 10.0), row(60, 2, 10.0)]
    found = shares(events, rows, now=60.0)
    assert found["start"] == pytest.approx((10 + 10) / 60)
    assert found["steps"] == pytest.approx(20 / 60)
    assert found["lost"] == pytest.approx((10 + 10) / 60), "ten seconds before the crash, and the bad step"


def test_an_attempt_on_more_ranks_weighs_more():
    events = [
        *begin(0, 1, ranks=4),
        Preempted(time=20, attempt=1, step=1, reason="SIGTERM"),
        *begin(100, 2, resumed=1, ranks=1),
        finish(150, 2),
    ]
    found = goodput(events, [row(20, 1, 10.0)], 150.0)
    assert found
    assert found.held_rank_s == pytest.approx(4 * 20 + 50)
    assert found.steps == pytest.approx(4 * 10 / 130)


def test_an_attempt_that_was_killed_without_a_word_lasts_until_its_last_row():
    events = [*begin(0, 1), *begin(1000, 2, resumed=2), finish(1010, 2)]
    found = goodput(events, [row(25, 2, 15.0)], 1010.0)
    assert found
    assert found.held_rank_s == pytest.approx(2 * (25 + 10))


def test_every_phase_has_a_use():
    assert {phase: use_of(phase) for phase in Phase if use_of(phase) != "start"} == {
        Phase.ASSESS_BASE: "evaluate",
        Phase.TRAIN: "train",
        Phase.SAVE: "save",
        Phase.ASSESS_TUNED: "evaluate",
        Phase.EXPORT: "save",
    }

"""Bad numbers: what is skipped, what is a jump, when a run goes back, and which batches it then takes."""

import math

import pytest

from train.config import TrainConfig
from train.rank.loss_guard import LossGuard, batch_number


def guard(**settings: object) -> LossGuard:
    return LossGuard(TrainConfig(**settings))


def kinds(watch: LossGuard, losses: list[float]) -> list[str]:
    return [watch.judge(applied=True, loss=loss).kind for loss in losses]


def test_three_bad_steps_in_a_row_go_back_and_two_do_not():
    watch = guard(bad_steps=3)
    judged = [watch.judge(applied=False, loss=None) for _ in range(2)]
    assert [entry.roll_back for entry in judged] == [False, False]
    assert watch.judge(applied=True, loss=2.0).kind == "fine"
    judged = [watch.judge(applied=False, loss=math.nan) for _ in range(3)]
    assert [entry.roll_back for entry in judged] == [False, False, True]
    assert judged[-1].bad_steps == 3


@pytest.mark.parametrize(
    ("policy", "kind", "back"),
    [("none", "fine", False), ("alert", "spike", False), ("rollback", "spike", True)],
)
def test_a_jump_of_the_loss(policy: str, kind: str, back: bool):
    watch = guard(spike=policy)
    assert set(kinds(watch, [3.0 + 0.02 * math.sin(n) for n in range(40)])) == {"fine"}
    judged = watch.judge(applied=True, loss=8.0)
    assert (judged.kind, judged.roll_back) == (kind, back)
    assert watch.judge(applied=True, loss=3.0).kind == "fine"


def test_a_falling_start_and_ordinary_noise_are_no_jumps():
    falling = [10.0 * 0.9**n + 1.0 for n in range(60)]
    noisy = [2.0 + 0.15 * math.sin(7.3 * n) for n in range(200)]
    assert set(kinds(guard(), falling + noisy)) == {"fine"}


def test_batches_that_are_left_out_are_taken_by_no_step():
    skipped = [(30, 31), (5, 7)]
    taken = [batch_number(step, skipped) for step in range(1, 30)]
    assert taken[:5] == [1, 2, 3, 4, 8]
    assert not {5, 6, 7, 30, 31} & set(taken)
    assert taken == sorted(set(taken))

"""What a sweep varies and which points it visits."""

from typing import Any

import pytest

from launcher.compose.axes import Axis, Interval, check_axes, points
from launcher.config import SweepConfig

LR = Axis("optim.lr", False, (1e-4, 1e-3))
SEED = Axis("seed", False, (0, 1, 2))
MODEL = Axis("model", True, ("tiny", "gpt2"))
RANGE = Axis("optim.lr", False, interval=Interval(1e-5, 1e-2, log=True, integer=False))


def settings(**given: Any) -> SweepConfig:
    return SweepConfig.model_validate(given)


def test_a_grid_crosses_all_axes_in_a_fixed_order():
    found = points([LR, MODEL, SEED], settings())
    assert len(found) == 12
    assert found[0] == {"optim.lr": 1e-4, "model": "tiny", "seed": 0}
    assert found == points([LR, MODEL, SEED], settings())


def test_zipped_keys_go_in_pairs():
    pairs = points([LR, MODEL, SEED], settings(zip=[["optim.lr", "model"]]))
    assert {(point["optim.lr"], point["model"]) for point in pairs} == {(1e-4, "tiny"), (1e-3, "gpt2")}
    assert len(pairs) == 6


def test_excluded_combinations_are_left_out_and_only_they():
    found = points([LR, MODEL], settings(exclude=[{"optim.lr": 1e-3, "model": "gpt2"}]))
    assert len(found) == 3
    assert {"optim.lr": 1e-3, "model": "gpt2"} not in found


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_drawn_settings_come_again_from_their_seed_and_grow_at_the_end(sampler: str):
    few = points([RANGE, MODEL], settings(sampler=sampler, n=5, seed=7))
    assert few == points([RANGE, MODEL], settings(sampler=sampler, n=5, seed=7))
    assert few == points([RANGE, MODEL], settings(sampler=sampler, n=12, seed=7))[:5]
    assert few != points([RANGE, MODEL], settings(sampler=sampler, n=5, seed=8))
    assert all(1e-5 <= point["optim.lr"] <= 1e-2 for point in few)


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_seeds_repeat_what_is_drawn(sampler: str):
    found = points([RANGE, SEED], settings(sampler=sampler, n=4))
    assert len(found) == 12
    assert len({point["optim.lr"] for point in found}) == 4


def test_sobol_fills_a_logarithmic_axis_evenly():
    drawn = [point["optim.lr"] for point in points([RANGE], settings(sampler="sobol", n=30))]
    per_decade = [sum(10**e <= value < 10 ** (e + 1) for value in drawn) for e in (-5, -4, -3)]
    assert min(per_decade) >= 9


def test_whole_numbers_reach_both_ends():
    axis = Axis("train.micro_batch_size", False, interval=Interval(1, 3, log=False, integer=True))
    drawn = [next(iter(p.values())) for p in points([axis], settings(sampler="sobol", n=16))]
    assert set(drawn) == {1, 2, 3}


@pytest.mark.parametrize(
    ("axes", "given", "message"),
    [
        ([], {}, "no key has several values"),
        ([RANGE], {}, "a grid needs a list of values"),
        ([LR], {"sampler": "random"}, "needs sweep.n"),
        ([LR], {"n": 3}, "runs every combination"),
        ([LR], {"seed": 3}, "runs every combination"),
        ([LR], {"refit": True}, "needs cv.folds"),
        ([LR, SEED], {"zip": [["optim.lr", "seed"]]}, "seed repeats settings"),
        ([LR, Axis("zero.stage", False, (1, 2, 3))], {"zip": [["optim.lr", "zero.stage"]]}, "has 2"),
        ([LR], {"exclude": [{"optim.lt": 1}]}, "unknown axis 'optim.lt'"),
        (
            [Axis("optim.lr", False, interval=Interval(1.0, 0.1, log=False, integer=False))],
            {"sampler": "sobol", "n": 2},
            "1 to 0.1",
        ),
    ],
)
def test_what_makes_no_sweep_is_refused_by_name(axes: list[Axis], given: dict[str, Any], message: str):
    assert any(message in problem.message for problem in check_axes(axes, settings(**given)))

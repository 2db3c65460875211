"""Schedules of the learning rate, and which parameters decay."""

import math

import pytest
import torch

from train.config import OptimConfig
from train.model.optim import build_optimizer, learning_rate


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 0.775, 0.55, 0.325, 0.1]),
        (
            "cosine",
            [
                0.5,
                1,
                0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)),
                0.55,
                0.1 + 0.9 * 0.5 * (1 - math.cos(math.pi / 4)),
                0.1,
            ],
        ),
        ("wsd", [0.5, 1, 1, 1, 0.55, 0.1]),
    ],
)
def test_schedules_warm_up_and_fall(schedule: str, expected: list[float]):
    config = OptimConfig(lr=1.0, schedule=schedule, warmup_steps=2, min_lr_ratio=0.1, decay_fraction=1 / 3)
    assert [learning_rate(config, step, 6) for step in range(1, 7)] == pytest.approx(expected)


def test_only_matrices_decay():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(3, 4))
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
    }

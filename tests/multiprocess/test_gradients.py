"""Gradients of a global batch do not depend on how it is shared out, with unequal token counts."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.multiprocess.ranks import run_ranks

ROWS = [
    [5, 6, 7, 8, 9, 10, 11, 12],
    [20, 21, 22],
    [30, 31, 32, 33, 34, 35],
    [40, 41],
    [50, 51, 52, 53],
    [60, 61, 62],
    [70, 71],
    [80] * 7,
]
"""Token ids of eight rows; of each, all but the first token is trained: 7, 2, 5, 1, 3, 2, 1 and 6."""


def gradients(rank: int, model_dir: str, world_size: int, micro: int, stage: int) -> dict[str, torch.Tensor]:
    """All gradients of one global batch of eight rows, as a rank of a real run would compute them."""
    import datasets
    import numpy as np
    from deepspeed.utils import safe_get_full_grad

    from launcher.compose import compose_run
    from train.batch import solve_batch
    from train.data.collate import TokenSet
    from train.data.sampler import share_out
    from train.dist import DistEnv, Group
    from train.engine import Engine
    from train.model import load_model
    from train.optim import build_optimizer
    from train.zero import deepspeed_config

    config = compose_run(
        ["experiment=smoke", f"zero=stage{stage}", "train.precision=fp32", f"train.micro_batch_size={micro}"]
    ).config
    env = DistEnv.from_environ("cpu")
    group = Group(env)
    batch = solve_batch(global_batch_size=8, micro_batch_size=micro, world_size=world_size)
    settings = deepspeed_config(config, batch, device="cpu")
    model, keep = load_model(Path(model_dir), config.model, precision="fp32", deepspeed=settings)
    engine = Engine(model, build_optimizer(model, config.optim), settings, causal=True, world_size=world_size)
    entries = [
        {"input_ids": ids, "labels": [-100, *ids[1:]], "tokens": len(ids), "trained_tokens": len(ids) - 1}
        for ids in ROWS
    ]
    rows = TokenSet(datasets.Dataset.from_list(entries), pad_id=1, labels_per_token=True)
    shares = share_out(list(range(8)), np.array([len(ids) for ids in ROWS]), batch, rank)
    for number, micro_batch in enumerate(shares, 1):
        loss_sum = engine.loss_sum(rows.collate(micro_batch, env.device))
        engine.backward(loss_sum, int(rows.trained_tokens.sum()))
        if number < len(shares):
            engine.micro_step()
    found: dict[str, Any] = {}
    for name, parameter in engine.module.named_parameters():
        gradient = safe_get_full_grad(parameter) if stage else parameter.grad
        assert gradient is not None
        found[name] = gradient.detach().clone().double()
    del keep
    group.close()
    return found


@pytest.fixture(scope="module")
def model_dir() -> str:
    from launcher.compose import compose_run
    from train.model import prepare_model

    config = compose_run(["experiment=smoke"]).config
    return str(prepare_model(config.model, seed=0, labels=[]))


def reference(model_dir: str) -> dict[str, torch.Tensor]:
    """Plain autograd on the mean over all trained tokens, row by row, in float64."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    trained = sum(len(ids) - 1 for ids in ROWS)
    for ids in ROWS:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        (
            torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum") / trained
        ).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_four_times_one_is_one_times_four(model_dir: str, stage: int):
    """Accumulation 4 x micro-batch 1 against 1 x 4 on two ranks, and both against plain autograd."""
    by_ones, by_fours = (run_ranks(gradients, 2, model_dir, 2, micro, stage)[0] for micro in (1, 4))
    expected = reference(model_dir)
    for one, other in pairwise((by_ones, by_fours, expected)):
        for name, gradient in one.items():
            torch.testing.assert_close(
                gradient, other[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )

"""Gradients of a global batch do not depend on how it is shared out, with unequal token counts."""

from typing import Any

import pytest
import torch

from tests.multiprocess.ranks import load_on_rank, run_ranks

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
STAGES = (0, 1, 2, 3)


def all_gradients(_rank: int, model_dir: str) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """By stage and micro-batch: the gradients of one global batch on this rank of a real group."""
    from train.dist import DistEnv, Group

    group = Group(DistEnv.from_environ("cpu"))
    found = {
        (stage, micro): gradients(group, model_dir, stage, micro) for stage in STAGES for micro in (1, 4)
    }
    group.close()
    return found


def gradients(group: Any, model_dir: str, stage: int, micro: int) -> dict[str, torch.Tensor]:
    """What a rank of a real run computes before it steps."""
    import datasets
    import numpy as np
    from deepspeed.utils import safe_get_full_grad

    from train.batch import solve_batch
    from train.data.collate import TokenSet
    from train.data.sampler import assign_micro_batches
    from train.engine.engine import Engine
    from train.model.optim import build_optimizer

    env = group.env
    settings = ("train.precision=fp32", f"zero=stage{stage}", f"train.micro_batch_size={micro}")
    config, model, deepspeed, keep = load_on_rank(
        model_dir, *settings, global_batch_size=8, world_size=env.world_size
    )
    batch = solve_batch(global_batch_size=8, micro_batch_size=micro, world_size=env.world_size)
    optimizer = build_optimizer(model, config.optim)
    engine = Engine(model, optimizer, deepspeed, causal=True, world_size=env.world_size)
    entries = [
        {"input_ids": ids, "labels": [-100, *ids[1:]], "tokens": len(ids), "trained_tokens": len(ids) - 1}
        for ids in ROWS
    ]
    rows = TokenSet(datasets.Dataset.from_list(entries), pad_id=1, labels_per_token=True)
    shares = assign_micro_batches(list(range(8)), np.array([len(ids) for ids in ROWS]), batch, env.rank)
    for number, numbers in enumerate(shares, 1):
        loss_sum = engine.loss_sum(rows.collate(numbers, env.device))
        engine.backward(loss_sum, int(rows.trained_tokens.sum()))
        if number < len(shares):
            engine.micro_step()
    found: dict[str, torch.Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        gradient = safe_get_full_grad(parameter) if stage else parameter.grad
        assert gradient is not None
        found[name] = gradient.detach().clone().double()
    del keep
    return found


@pytest.fixture(scope="module")
def model_dir() -> str:
    from launcher.compose.run import compose_run
    from train.model.load import prepare_model

    return str(prepare_model(compose_run(["experiment=smoke"]).config.model, seed=0, labels=[]))


@pytest.fixture(scope="module")
def found(model_dir: str) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    return run_ranks(all_gradients, 2, model_dir)[0]


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


@pytest.mark.parametrize("stage", STAGES)
def test_four_times_one_is_one_times_four(
    found: dict[tuple[int, int], dict[str, torch.Tensor]], model_dir: str, stage: int
):
    """Accumulation 4 x micro-batch 1 against 1 x 4 on two ranks, and both against plain autograd."""
    by_ones, by_fours, expected = found[stage, 1], found[stage, 4], reference(model_dir)
    for name, gradient in by_ones.items():
        torch.testing.assert_close(gradient, by_fours[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)

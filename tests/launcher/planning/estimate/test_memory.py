"""Memory and disk, line by line, of a model small enough to count by hand."""

from dataclasses import replace
from typing import Any

import pytest

from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.planning.estimate.memory import (
    MemoryEstimate,
    checkpoint_bytes,
    disk_bytes,
    estimate_memory,
)
from launcher.planning.estimate.shape import ModelShape
from train.batch import solve_batch
from train.kernels.table import Device

SHAPE = ModelShape(
    kind="decoder",
    layers=4,
    hidden=100,
    ffn=400,
    heads=10,
    kv_heads=5,
    vocab=5000,
    embedding_parameters=500_000,
    other_parameters=500_000,
    tied_parameters=500_000,
    product_elements=1500,
)
"""A million parameters."""
GB = 1e9


def config_of(**sections: dict[str, Any]) -> RunConfig:
    """The smoke experiment in bf16 at ZeRO 0, sequences of 100 tokens, with changes by section."""
    config = compose_run(["experiment=smoke", "zero=stage0"]).config
    base: dict[str, dict[str, Any]] = {
        "data": {"max_length": 100, "validation": None},
        "train": {"precision": "bf16"},
    }
    return config.model_copy(
        update={
            name: getattr(config, name).model_copy(update={**base.get(name, {}), **sections.get(name, {})})
            for name in base.keys() | sections.keys()
        }
    )


def memory_of(config: RunConfig, shape: ModelShape = SHAPE, device: Device = "cuda") -> MemoryEstimate:
    batch = solve_batch(global_batch_size=8, micro_batch_size=2, world_size=4)
    return estimate_memory(config, shape, batch, device)


@pytest.mark.parametrize(
    ("stage", "precision", "weights", "gradients", "optimizer", "save_copy"),
    [
        (0, "bf16", 2, 2, 12, 14),
        (1, "bf16", 2, 2, 3, 5),
        (2, "bf16", 2, 0.5, 3, 5),
        (3, "bf16", 0.5, 0.5, 3, 3),
        (0, "fp32", 4, 4, 8, 12),
        (1, "fp32", 4, 4, 3, 7),
    ],
)
def test_bytes_per_parameter_on_four_ranks(
    stage: int, precision: str, weights: float, gradients: float, optimizer: float, save_copy: float
):
    memory = memory_of(config_of(zero={"stage": stage}, train={"precision": precision}))
    per_parameter = GB / SHAPE.parameters
    assert [
        memory.weights_gb * per_parameter,
        memory.gradients_gb * per_parameter,
        memory.optimizer_gb * per_parameter,
        memory.save_copy_gb * per_parameter,
    ] == pytest.approx([weights, gradients, optimizer, save_copy])


def test_what_is_offloaded_stays_with_cpu_ranks_and_leaves_gpus():
    config = config_of(zero={"stage": 3, "offload_optimizer": True, "offload_params": True})
    gpu, cpu = memory_of(config), memory_of(config, device="cpu")
    assert (gpu.weights_gb, gpu.optimizer_gb) == (0, 0)
    assert gpu.offloaded_gb * GB == pytest.approx(3.5 * SHAPE.parameters)
    assert cpu.total_gb - cpu.runtime_gb == pytest.approx(gpu.total_gb - gpu.runtime_gb + gpu.host_gb)


@pytest.mark.parametrize(
    ("kept", "numbers"),
    [
        ("none", 4 * 100 * 2 + 3 * 3400 + 3400),
        ("selective", 4 * 100 * 2 + 3 * 1500 * 2 + 3400),
        ("full", 4 * 100 * 2 + 3400),
    ],
)
def test_activations_of_a_micro_batch(kept: str, numbers: int):
    memory = memory_of(config_of(model={"activation_checkpointing": kept}))
    assert memory.activations_gb * GB == pytest.approx(2 * 100 * numbers)


def test_logits_are_kept_whole_by_torch_and_in_chunks_otherwise():
    whole = memory_of(config_of(kernels={"loss_head": "torch"})).logits_gb * GB
    chunked = memory_of(config_of(kernels={"loss_head": "chunked"})).logits_gb * GB
    assert whole == pytest.approx(200 * 5000 * (2 + 8))
    assert chunked == pytest.approx(200 * 5000 * (4 + 2) + 5000 * 100 * (4 + 2 * 2))
    larger = replace(SHAPE, vocab=50_000_000)
    chunks: dict[Device, int] = {"cuda": 2 * 2**30, "cpu": 128 * 2**20}
    for device, chunk in chunks.items():
        limited = memory_of(config_of(kernels={"loss_head": "chunked"}), larger, device).logits_gb * GB
        assert limited == pytest.approx(chunk + 50_000_000 * 100 * 8)
    assert memory_of(config_of(), replace(SHAPE, kind="encoder")).logits_gb == 0


@pytest.mark.parametrize(
    ("precision", "stage", "per_parameter"),
    [("bf16", 0, 14), ("bf16", 2, 14), ("fp32", 0, 12), ("fp32", 1, 16)],
)
def test_bytes_of_a_checkpoint(precision: str, stage: int, per_parameter: int):
    config = config_of(train={"precision": precision}, zero={"stage": stage})
    assert checkpoint_bytes(config, SHAPE) == per_parameter * SHAPE.parameters


@pytest.mark.parametrize(
    ("checkpoint", "data", "checkpoints"),
    [
        ({"keep_last": 5, "every_steps": None}, {"validation": "rows.jsonl"}, 2),
        ({"keep_last": 5, "every_steps": None, "every_min": 10.0}, {}, 6),
        ({"keep_last": 2}, {}, 3),
        ({"keep_last": 2}, {"validation": "rows.jsonl"}, 4),
        ({"keep_last": 1, "keep_every_steps": 10}, {}, 2 + 5),
        ({"keep_last": 1, "keep_every_steps": 100}, {}, 2),
    ],
)
def test_a_run_holds_the_kept_checkpoints_one_more_and_the_export(
    checkpoint: dict[str, Any], data: dict[str, Any], checkpoints: int
):
    config = config_of(
        checkpoint={"keep_every_steps": None, "every_steps": 10, "every_min": None, **checkpoint},
        data={"max_length": 100, "validation": None, **data},
        train={"precision": "bf16", "max_steps": 50},
    )
    assert disk_bytes(config, SHAPE) == (checkpoints * 14 + 4) * SHAPE.parameters

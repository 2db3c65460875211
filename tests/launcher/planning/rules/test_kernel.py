"""Rules for kernels that are named, and for compiled layers."""

from typing import Any

import pytest

from launcher.planning.rules.kernel import compiles, engages
from tests.launcher.planning.conftest import config_with, found, made_facts, model_files

GPU = {"hardware.device": "cuda"}
NODES = {"slurm.executor": "slurm"}
FLASH = {**GPU, "model.attention": "flash_attention_2", "train.precision": "bf16"}
INSTALLED = {"packages": frozenset({"flash-attn"})}


@pytest.mark.parametrize(
    ("changes", "facts", "expected"),
    [
        ({}, {}, []),
        (FLASH, INSTALLED, []),
        (FLASH, {}, [("model.attention", "model.attention")]),
        ({**FLASH, **NODES, "slurm.environment.path": "/environment"}, {}, []),
        ({**FLASH, "train.precision": "fp32"}, INSTALLED, [("model.attention", "model.attention")]),
        ({**FLASH, "hardware.device": "cpu"}, INSTALLED, [("model.attention", "model.attention")]),
        ({"model.attention": "eager"}, {}, []),
        ({"kernels.rms_norm": "auto"}, {}, []),
        (
            {"kernels.rms_norm": "liger", "hardware.device": "cpu"},
            {},
            [("kernels.missing", "kernels.rms_norm")],
        ),
        (
            {**GPU, "kernels.rms_norm": "liger", "kernels.swiglu": "liger"},
            {"packages": frozenset({"liger-kernel"}), "model": model_files(model_type="phi3")},
            [("kernels.missing", "kernels.rms_norm"), ("kernels.missing", "kernels.swiglu")],
        ),
        (
            {**GPU, "kernels.optimizer": "fused_adam", "zero.stage": 2},
            {"unbuildable": {"fused_adam": "needs nvcc"}},
            [("kernels.missing", "kernels.optimizer")],
        ),
        ({**GPU, "kernels.optimizer": "fused_adam", "zero.stage": 2}, {}, []),
    ],
)
def test_a_named_kernel_is_to_be_had(
    changes: dict[str, Any], facts: dict[str, Any], expected: list[tuple[str, str]]
):
    assert found(engages(config_with(changes), made_facts(**{"model": model_files(), **facts}))) == expected


@pytest.mark.parametrize(
    ("changes", "obstacle", "fields"),
    [
        ({"model.compile": False, "zero.stage": 3}, "no compiler", []),
        ({"zero.stage": 2}, None, []),
        ({"zero.stage": 3}, None, ["zero.stage"]),
        ({"zero.stage": 2}, "no compiler", ["model.compile"]),
        ({"zero.stage": 3}, "no compiler", ["zero.stage", "model.compile"]),
        ({"zero.stage": 2, **GPU}, "no compiler", []),
        ({"zero.stage": 2, **NODES}, "no compiler", []),
    ],
)
def test_layers_can_be_compiled(changes: dict[str, Any], obstacle: str | None, fields: list[str]):
    config = config_with({"hardware.device": "cpu", "model.compile": True, **changes})
    problems = compiles(config, made_facts(compiler_obstacle=obstacle))
    assert found(problems) == [("model.compile", field) for field in fields]

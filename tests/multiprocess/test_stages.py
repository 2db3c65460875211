"""The same training whatever is sharded: ZeRO 0 to 3, offload, and any share of the batch."""

import math
from pathlib import Path

import pytest

from tests.multiprocess.driven import finish
from tests.multiprocess.runs import Run

QUICK = (
    "experiment=smoke",
    "eval.base=false",
    "data.validation=null",
    "data.test=null",
    "checkpoint.every_steps=null",
)


FP32 = ("train.precision=fp32", "train.max_steps=20")
BF16 = ("train.precision=bf16", "train.max_steps=8")
"""Fewer steps: without instructions for bf16 they take long."""


@pytest.fixture(scope="module")
def reference(module_runs: Path) -> dict[str, Run]:
    """Stage 0 at both precisions: nothing is sharded."""
    return {
        name: finish(*QUICK, *length, "zero=stage0", f"runs_dir={module_runs}")
        for name, length in (("fp32", FP32), ("bf16", BF16))
    }


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_losses_do_not_depend_on_the_stage(reference: dict[str, Run], stage: int):
    """In bf16. In fp32 `test_gradients.py` compares gradients, and offload below has all three stages."""
    run = finish(*QUICK, *BF16, f"zero=stage{stage}")
    expected = reference["bf16"].losses()
    assert len(run.losses()) == len(expected) == 8
    assert run.losses() == pytest.approx(expected, rel=2e-2)
    assert run.losses()[0] == pytest.approx(math.log(1024), abs=0.3)


def test_the_first_loss_is_that_of_a_guess(reference: dict[str, Run]):
    for run in reference.values():
        assert run.losses()[0] == pytest.approx(math.log(1024), abs=0.3)
        assert run.losses()[-1] < run.losses()[0]
    assert reference["fp32"].losses()[-1] < reference["fp32"].losses()[0] - 0.1


@pytest.mark.parametrize(
    ("zero", "checkpointing"),
    [
        ("stage1 zero.offload_optimizer=true", "none"),
        ("stage2-offload", "full"),
        ("stage3-offload", "selective"),
    ],
)
def test_offload_and_activation_checkpointing_change_no_loss(
    reference: dict[str, Run], zero: str, checkpointing: str
):
    more = f"model.activation_checkpointing={checkpointing}"
    run = finish(*QUICK, *FP32, *f"zero={zero}".split(), more)
    assert run.losses() == pytest.approx(reference["fp32"].losses(), rel=1e-5)


def test_losses_do_not_depend_on_ranks_and_accumulation(reference: dict[str, Run]):
    """Four ranks that accumulate two micro-batches, beside two that accumulate none."""
    more = (*FP32, "zero=stage0", "hardware.gpus_per_node=4", "train.micro_batch_size=1")
    run = finish(*QUICK, *more)
    assert run.losses() == pytest.approx(reference["fp32"].losses(), rel=1e-4)


def test_a_step_length_is_logged_with_its_gradient_norm(reference: dict[str, Run]):
    from train.rundir import read_lines

    rows = list(read_lines(reference["fp32"].dir.metrics))
    assert set(rows[0]) >= {
        "attempt",
        "step",
        "loss",
        "lr",
        "tokens",
        "samples",
        "grad_norm",
        "tokens_per_s",
        "time",
    }
    assert all(row["grad_norm"] > 0 for row in rows)
    assert [row["samples"] for row in rows] == [8 * step for step in range(1, 21)]

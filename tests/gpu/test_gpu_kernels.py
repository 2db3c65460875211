"""Every implementation for GPUs computes what it replaces, in every dtype that it is used in."""

import pytest
import torch

from train.kernels import loss_head
from train.kernels.check import Heads, mismatches
from train.kernels.ops import OPS, build_in_child, why_not_buildable
from train.kernels.table import IMPLEMENTATIONS, Implementation, KernelChoice

MODULES = {"liger-kernel": "liger_kernel", "flash-attn": "flash_attn"}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HEADS = {
    "llama": Heads(queries=32, keys=8, size=128, causal=True),
    "smollm": Heads(queries=9, keys=3, size=64, causal=True),
    "bert": Heads(queries=12, keys=12, size=64, causal=False),
}
CASES = [
    pytest.param(entry, precision, id=f"{entry.kernel}-{entry.name}-{precision}")
    for entry in IMPLEMENTATIONS
    for precision in entry.precisions or DTYPES
]


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize(("entry", "precision"), CASES)
def test_it_agrees_with_its_reference(entry: Implementation, precision: str, heads: Heads):
    if entry.package:
        pytest.importorskip(MODULES[entry.package])
    if entry.op:
        if obstacle := why_not_buildable(entry.op):
            pytest.skip(f"{entry.op} {obstacle}")
        assert build_in_child(entry.op) is None
    choice = {entry.kernel: KernelChoice(name=entry.name, why="")}
    assert mismatches(choice, torch.device("cuda"), DTYPES[precision], heads) == {}


def test_every_op_belongs_to_an_implementation():
    assert {entry.op for entry in IMPLEMENTATIONS if entry.op} == set(OPS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_one_product_adds_to_fp32_sums_what_blocks_add(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """The weights' gradient of the loss head, over two chunks, against fp64."""
    if not loss_head._HAS_FP32_SUMS:
        pytest.skip("this torch has no such product")
    torch.manual_seed(0)
    slopes = torch.randn(2, 128, 5000, device="cuda", dtype=dtype)
    hidden = torch.randn(2, 128, 256, device="cuda", dtype=dtype)
    exact = sum(slope.double().T @ rows.double() for slope, rows in zip(slopes, hidden, strict=True))
    errors = []
    for at_once in (True, False):
        monkeypatch.setattr(loss_head, "_HAS_FP32_SUMS", at_once)
        total = torch.zeros(5000, 256, device="cuda")
        for slope, rows in zip(slopes, hidden, strict=True):
            loss_head._add_product(total, slope, rows)
        errors.append(float((total - exact).abs().max()))
    assert errors[0] < 1e-3
    assert errors[0] <= errors[1]

"""Whether a processor multiplies bf16, by its flags."""

from pathlib import Path

import pytest
import torch

from train.machine.cpu_features import multiplies_bf16


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 fma", False),
        ("flags\t\t: fpu avx512f avx512bw avx512dq avx512vl", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("Features\t: fp asimd", False),
    ],
)
def test_a_processor_that_multiplies_bf16_says_so(tmp_path: Path, line: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert multiplies_bf16(tmp_path / "cpuinfo") is expected


def test_torch_sees_the_same_processor():
    assert multiplies_bf16() is torch.ops.mkldnn._is_mkldnn_bf16_supported()

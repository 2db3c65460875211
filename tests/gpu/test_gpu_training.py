"""The same training on a GPU and on the CPU."""

import pytest

from tests.multiprocess.runs import Run, finish
from train.kernels.ops import why_not_buildable

QUICK = (
    "experiment=smoke",
    "eval.base=false",
    "data.validation=null",
    "data.test=null",
    "hardware.gpus_per_node=1",
)
WITHIN = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    cpu = ("hardware.device=cpu", "train.precision=fp32", f"runs_dir={runs}")
    return finish(*QUICK, *cpu, CUDA_VISIBLE_DEVICES="")


def on_gpu(precision: str, *more: str) -> Run:
    return finish(*QUICK, "hardware.device=cuda", f"train.precision={precision}", *more)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("precision", WITHIN)
def test_losses_are_those_of_the_cpu(on_cpu: Run, precision: str, kernels: str):
    run = on_gpu(precision, f"kernels={kernels}")
    assert run.losses() == pytest.approx(on_cpu.losses(), rel=WITHIN[precision])


@pytest.mark.parametrize(
    ("kernel", "zero"), [("fused_adam", "stage2"), ("fused_adam", "stage3"), ("cpu_adam", "stage2-offload")]
)
def test_deepspeeds_optimizers_train_alike(on_cpu: Run, kernel: str, zero: str):
    if obstacle := why_not_buildable(kernel):
        pytest.skip(f"{kernel} {obstacle}")
    run = on_gpu("fp32", f"kernels.optimizer={kernel}", f"zero={zero}")
    assert run.losses() == pytest.approx(on_cpu.losses(), rel=WITHIN["fp32"])


def test_packs_by_flash_attention_have_the_losses_of_sdpa():
    pytest.importorskip("flash_attn")
    packed = ("data.packing=true", "train.micro_batch_size=2", "train.global_batch_size=2")
    by_flash = on_gpu("bf16", *packed, "model.attention=flash_attention_2", "name=flash")
    by_sdpa = on_gpu("bf16", *packed, "model.attention=sdpa", "name=sdpa")
    assert by_flash.losses() == pytest.approx(by_sdpa.losses(), rel=WITHIN["bf16"])

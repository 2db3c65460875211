"""Kernels: chosen by device and model, and equal to what they replace."""

import pytest
import torch
from torch.nn import functional

from train.kernels import check
from train.kernels.apply import attach_loss_head
from train.kernels.loss_head import linear_cross_entropies, linear_cross_entropy_sum
from train.kernels.table import KERNELS, KernelChoice, Site, choose, logit_bytes

AUTO = dict.fromkeys(KERNELS, "auto")
N, D, V = 53, 32, 517


def tensors(dtype: torch.dtype, *, bias: bool = False) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(N, D, generator=draw).to(dtype)
    weight = (torch.randn(V, D, generator=draw) / 4).to(dtype)
    labels = torch.randint(V, (N,), generator=draw)
    return (hidden, weight, torch.randn(V, generator=draw).to(dtype) if bias else None, labels)


@pytest.mark.parametrize("rows", [1, 10, N, 1000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-3)])
def test_the_loss_head_equals_cross_entropy_in_fp64(rows: int, bias: bool, dtype: torch.dtype, within: float):
    hidden, weight, offset, labels = tensors(dtype, bias=bias)
    leaves = [value.clone().requires_grad_() for value in (hidden, weight, offset) if value is not None]
    size = logit_bytes(dtype.itemsize) * V * rows
    ours = linear_cross_entropy_sum(*leaves, *([] if bias else [None]), labels, chunk_bytes=size)
    (ours * 0.25).backward()
    exact = [value.double().requires_grad_() for value in (hidden, weight, offset) if value is not None]
    logits = functional.linear(*exact)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    (loss * 0.25).backward()
    assert float(ours.detach()) / N == pytest.approx(float(loss.detach()) / N, abs=within)
    for leaf, right in zip(leaves, exact, strict=True):
        assert leaf.grad is not None
        assert right.grad is not None
        assert leaf.grad.dtype == dtype
        cosine = functional.cosine_similarity(leaf.grad.double().flatten(), right.grad.flatten(), dim=0)
        assert float(cosine) >= 0.9999
        assert float(leaf.grad.double().norm() / right.grad.norm()) == pytest.approx(1.0, abs=1e-2)


def test_each_token_has_its_own_loss():
    hidden, weight, _, labels = tensors(torch.float32)
    each = linear_cross_entropies(hidden, weight, None, labels, chunk_bytes=4 * V * 7)
    right = functional.cross_entropy(functional.linear(hidden, weight), labels, reduction="none")
    assert torch.allclose(each, right, atol=1e-5)


def test_extreme_logits_stay_finite():
    hidden, weight, _, labels = tensors(torch.float32)
    loss = linear_cross_entropy_sum((hidden * 1e4).requires_grad_(), weight, None, labels)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_weights_get_both_gradients(dtype: torch.dtype):
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(V, D).to(dtype)
    ids, labels = torch.randint(V, (20,)), torch.randint(V, (20,))
    gradients = []
    for chunked in (True, False):
        head = torch.nn.Linear(D, V, bias=False)
        head.weight = embedding.weight
        attach_loss_head(head, chunked=chunked)
        embedding.zero_grad()
        head(embedding(ids), labels).backward()
        assert embedding.weight.grad is not None
        gradients.append(embedding.weight.grad.double().flatten().clone())
    assert functional.cosine_similarity(*gradients, dim=0) > 0.9999


def site(device: str, family: str = "llama", *, liger: bool = True, task: str = "causal") -> Site:
    return Site(device=device, family=family, task=task, installed=lambda _: liger)


def chosen(wanted: dict[str, str], where: Site) -> dict[str, str]:
    return {kernel: choice.name for kernel, choice in choose(wanted, where)[0].items()}


def test_auto_takes_what_the_device_and_the_model_allow():
    on_cpu = {
        "loss_head": "chunked",
        "optimizer": "fused",
        "rms_norm": "torch",
        "swiglu": "torch",
        "rope": "torch",
    }
    on_gpu = {**on_cpu, "rms_norm": "liger", "swiglu": "liger", "rope": "liger"}
    assert chosen(AUTO, site("cpu")) == on_cpu
    assert chosen(AUTO, site("cuda")) == on_gpu
    assert chosen(AUTO, site("cuda", "gpt2")) == on_cpu
    assert chosen(AUTO, site("cuda", liger=False)) == on_cpu
    assert chosen(AUTO, site("cpu", "bert", task="classification"))["loss_head"] == "torch"


def test_why_not_is_told():
    choices, refused = choose(AUTO, site("cuda", liger=False))
    assert choices["rope"].why == "liger needs the package liger-kernel"
    assert not refused
    assert choose(AUTO, site("cpu"))[0]["rope"].why == "liger runs on cuda only"


def test_what_is_asked_for_by_name_and_cannot_be_had_is_refused():
    _, refused = choose({**AUTO, "swiglu": "liger"}, site("cpu"))
    assert refused == {"swiglu": "runs on cuda only"}


def choices(**names: str) -> dict[str, KernelChoice]:
    return {kernel: KernelChoice(name=name, why="") for kernel, name in names.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_engages_here_agrees_with_its_reference(dtype: torch.dtype):
    engaged = choices(loss_head="chunked", optimizer="fused", rms_norm="torch")
    assert check.mismatches(engaged, torch.device("cpu"), dtype) == {}


def test_a_kernel_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch):
    def wrong_value(*arguments: torch.Tensor, **options: int) -> torch.Tensor:
        return linear_cross_entropy_sum(*arguments, **options) * 1.01

    def wrong_gradient(hidden: torch.Tensor, *rest: torch.Tensor, **options: int) -> torch.Tensor:
        return linear_cross_entropy_sum(hidden.flip(0).detach() + hidden - hidden.flip(0), *rest, **options)

    engaged = choices(loss_head="chunked")
    monkeypatch.setattr(check, "linear_cross_entropy_sum", wrong_value)
    assert "value" in check.mismatches(engaged, torch.device("cpu"), torch.float32)["loss_head"]
    monkeypatch.setattr(check, "linear_cross_entropy_sum", wrong_gradient)
    assert "gradient" in check.mismatches(engaged, torch.device("cpu"), torch.float32)["loss_head"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_kernels_agree_on_a_gpu(dtype: torch.dtype):
    pytest.importorskip("liger_kernel")
    engaged = choices(loss_head="chunked", optimizer="fused", rms_norm="liger", swiglu="liger", rope="liger")
    assert check.mismatches(engaged, torch.device("cuda"), dtype) == {}

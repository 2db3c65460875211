"""Kernels: chosen by device and model, and equal to what they replace."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import modeling_utils

from train.kernels import check, loss_head, table
from train.kernels.adamw import adopt_states, make_adamw
from train.kernels.apply import attach_loss_head
from train.kernels.check import Heads
from train.kernels.loss_head import linear_cross_entropies, linear_cross_entropy_sum
from train.kernels.table import KERNELS, KernelChoice, Site, choose, logit_bytes, ops_of, reference_of

AUTO = dict.fromkeys(KERNELS, "auto")
N, D, V = 53, 32, 517
CPU = torch.device("cpu")


def tensors(
    dtype: torch.dtype, *, bias: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
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
    hidden_leaf, weight_leaf, bias_leaf = leaves if bias else (*leaves, None)
    ours = linear_cross_entropy_sum(hidden_leaf, weight_leaf, bias_leaf, labels, chunk_bytes=size)
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


def test_a_chunk_has_the_size_for_its_device(monkeypatch: pytest.MonkeyPatch):
    weight = torch.empty(V, D)
    assert loss_head._chunk_rows(weight, None) == 128 * 2**20 // (4 * V)
    monkeypatch.setitem(table.CHUNK_BYTES, "cpu", 4 * V * 2)
    assert loss_head._chunk_rows(weight, None) == 2
    assert loss_head._chunk_rows(weight, 4 * V * 7) == 7


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
    assert functional.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.9999


def site(
    device: str, family: str = "llama", *, liger: bool = True, task: str = "causal", **more: Any
) -> Site:
    return Site(device=device, family=family, task=task, installed=lambda _: liger, **more)


def chosen(wanted: dict[str, str], where: Site) -> dict[str, str]:
    return {kernel: choice.name for kernel, choice in choose(wanted, where)[0].items()}


def test_auto_takes_what_the_device_and_the_model_allow():
    on_cpu = {
        "loss_head": "chunked",
        "attention": "sdpa",
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


@pytest.mark.parametrize(
    ("where", "attention"),
    [
        (site("cuda", packed=True), "flash_attention_2"),
        (site("cuda", packed=False), "sdpa"),
        (site("cuda", packed=True, precision="fp32"), "sdpa"),
        (site("cuda", packed=True, liger=False), "sdpa"),
        (site("cpu", packed=True), "sdpa"),
    ],
)
def test_auto_takes_flash_attention_for_packs_where_it_can_be_had(where: Site, attention: str):
    assert chosen(AUTO, where)["attention"] == attention


def test_compiled_layers_leave_to_torch_what_it_fuses_itself():
    compiled = site("cuda", compiled=True)
    assert chosen(AUTO, compiled) == chosen(AUTO, site("cuda", liger=False))
    assert "torch.compile fuses these operations itself" in choose(AUTO, compiled)[0]["rope"].why


def test_why_not_is_told():
    choices, refused = choose(AUTO, site("cuda", liger=False))
    assert choices["rope"].why == "liger needs the package liger-kernel"
    assert not refused
    on_cpu = choose(AUTO, site("cpu"))[0]
    assert on_cpu["rope"].why == "liger runs only on cuda"
    assert on_cpu["optimizer"].why == (
        "replaces AdamW as one loop over parameters; fused_adam runs only on cuda;"
        " cpu_adam needs zero.offload_optimizer=true"
    )


NO_COMPILER = {"why_not_buildable": lambda _: "has to be compiled, but c++ is missing here"}


@pytest.mark.parametrize(
    ("wanted", "where", "why"),
    [
        ({"swiglu": "liger"}, site("cpu"), "runs only on cuda"),
        ({"rope": "liger"}, site("cuda", compiled=True), "is not used with model.compile=true"),
        ({"optimizer": "cpu_adam"}, site("cpu"), "needs zero.offload_optimizer=true"),
        ({"optimizer": "cpu_adam"}, site("cpu", offload=True, **NO_COMPILER), "c++ is missing here"),
        ({"optimizer": "fused_adam"}, site("cpu"), "runs only on cuda"),
        ({"optimizer": "fused_adam"}, site("cuda", offload=True), "needs zero.offload_optimizer=false"),
        ({"optimizer": "fused_adam"}, site("cuda", zero_stage=0), "needs zero.stage 1, 2 or 3"),
        ({"attention": "flash_attention_2"}, site("cuda", liger=False), "needs the package flash-attn"),
    ],
)
def test_what_is_asked_for_by_name_and_cannot_be_had_is_refused(
    wanted: dict[str, str], where: Site, why: str
):
    chosen_instead, refused = choose({**AUTO, **wanted}, where)
    [(kernel, obstacle)] = refused.items()
    assert kernel in wanted
    assert why in obstacle
    assert chosen_instead[kernel].name == reference_of(kernel)


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"optimizer": "cpu_adam"}, site("cpu", offload=True)),
        ({"optimizer": "cpu_adam"}, site("cuda", offload=True)),
        ({"optimizer": "fused_adam"}, site("cuda")),
        ({"optimizer": "torch", "attention": "eager"}, site("cuda")),
        ({"attention": "flash_attention_2"}, site("cuda", liger=False, elsewhere=True)),
    ],
)
def test_what_is_asked_for_by_name_and_fits_is_taken(wanted: dict[str, str], where: Site):
    chosen_by_name, refused = choose({**AUTO, **wanted}, where)
    assert not refused
    assert {kernel: chosen_by_name[kernel].name for kernel in wanted} == wanted


def test_only_what_was_chosen_has_to_be_compiled():
    offloaded = site("cpu", offload=True)
    assert ops_of(choose(AUTO, offloaded)[0]) == []
    assert ops_of(choose({**AUTO, "optimizer": "cpu_adam"}, offloaded)[0]) == ["cpu_adam"]


def choices(**names: str) -> dict[str, KernelChoice]:
    return {kernel: KernelChoice(name=name, why="") for kernel, name in names.items()}


DECODER = Heads(queries=9, keys=3, size=64, causal=True)
ENCODER = Heads(queries=12, keys=12, size=32, causal=False)


@pytest.mark.parametrize("heads", [DECODER, ENCODER])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_engages_here_agrees_with_its_reference(dtype: torch.dtype, heads: Heads):
    engaged = choices(loss_head="chunked", optimizer="fused", rms_norm="torch", attention="sdpa")
    assert check.mismatches(engaged, CPU, dtype, heads) == {}


def test_a_kernel_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch):
    def wrong_value(*arguments: torch.Tensor, **options: int) -> torch.Tensor:
        return linear_cross_entropy_sum(*arguments, **options) * 1.01

    def wrong_gradient(hidden: torch.Tensor, *rest: torch.Tensor, **options: int) -> torch.Tensor:
        return linear_cross_entropy_sum(hidden.flip(0).detach() + hidden - hidden.flip(0), *rest, **options)

    engaged = choices(loss_head="chunked")
    monkeypatch.setattr(check, "linear_cross_entropy_sum", wrong_value)
    assert "value" in check.mismatches(engaged, CPU, torch.float32, DECODER)["loss_head"]
    monkeypatch.setattr(check, "linear_cross_entropy_sum", wrong_gradient)
    assert "gradient" in check.mismatches(engaged, CPU, torch.float32, DECODER)["loss_head"]


@pytest.mark.parametrize("error", [ValueError("no such\nlibrary"), ImportError()])
def test_a_check_that_raises_counts_as_a_mismatch(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def raises(*_: torch.Tensor, **__: int) -> torch.Tensor:
        raise error

    monkeypatch.setattr(check, "linear_cross_entropy_sum", raises)
    found = check.mismatches(choices(loss_head="chunked", attention="sdpa"), CPU, torch.float32, DECODER)
    [first, *_] = str(error).splitlines() or [""]
    text = f"its check raised {type(error).__name__}: {first}" if first else "its check raised ImportError"
    assert found == {"loss_head": text}


def test_attention_that_sees_other_documents_is_found(monkeypatch: pytest.MonkeyPatch):
    right = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]
    sees_all = {"sdpa": lambda layer, q, k, v, mask, **_: right(layer, q, k, v, None)}
    monkeypatch.setattr(modeling_utils, "ALL_ATTENTION_FUNCTIONS", sees_all)
    found = check.mismatches(choices(attention="sdpa"), CPU, torch.float32, DECODER)
    assert found["attention"].startswith("with 2 documents in a row ")


def adamw(kernel: str) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(20))
    weight.grad = torch.randn(20)
    return make_adamw(
        kernel, [{"params": [weight], "weight_decay": 0.1}], lr=0.1, betas=(0.9, 0.95), eps=1e-8
    )


def test_states_written_by_another_kernel_do_not_change_how_steps_are_made():
    loop = adamw("torch")
    loop.step()
    fused = adamw("fused")
    fused.load_state_dict(loop.state_dict())
    assert not fused.param_groups[0]["fused"], "what torch restores"
    adopt_states(fused)
    assert fused.param_groups[0]["fused"]
    for weight, state in fused.state.items():
        state["step"] = 1  # as DeepSpeed counts
        weight.grad = torch.ones(20)
    adopt_states(fused)
    fused.step()
    [state] = fused.state.values()
    assert torch.equal(state["step"], torch.tensor(2.0))

"""Compares each chosen kernel with its reference, forward and backward, on this device and in this dtype."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import torch
from torch.nn import functional

from train.families import LigerNorm, liger_norms
from train.kernels.adamw import make_adamw
from train.kernels.apply import documents_for_flash
from train.kernels.loss_head import linear_cross_entropy_sum
from train.kernels.table import REFERENCE, KernelChoice

_LOSS_WITHIN = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
_COSINE_AT_LEAST = {torch.float32: 0.99999, torch.bfloat16: 0.999, torch.float16: 0.9999}
_TOKENS, _WIDTH, _VOCABULARY = 67, 48, 515
"""Sizes that are no multiples of a chunk, so that the last chunk is partly filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Heads of a model's attention."""

    queries: int
    keys: int
    """Number of key and value heads; several query heads may share one."""
    size: int
    causal: bool


def mismatches(
    choices: Mapping[str, KernelChoice], device: torch.device, dtype: torch.dtype, heads: Heads
) -> dict[str, str]:
    """Return how each kernel differs from its reference, or the error of its check; empty if all agree.

    Args:
        choices: The chosen kernels.
        device: Device to compare on.
        dtype: Dtype to compare in.
        heads: Heads of the model's attention.
    """
    checks: dict[tuple[str, str], Callable[[torch.device, torch.dtype], str | None]] = {
        ("loss_head", "chunked"): _check_loss_head,
        **{
            ("optimizer", name): partial(_check_optimizer, name)
            for name in ("fused", "fused_adam", "cpu_adam")
        },
        ("rms_norm", "liger"): _check_rms_norm,
        ("swiglu", "liger"): _check_swiglu,
        ("rope", "liger"): _check_rope,
        **{
            ("attention", name): partial(_check_attention, name, heads)
            for name in ("sdpa", "flash_attention_2")
        },
    }
    found = {}
    for kernel, choice in choices.items():
        check = checks.get((kernel, choice.name))
        if check and (difference := _outcome(check, device, dtype)):
            found[kernel] = difference
    return found


def _outcome(
    check: Callable[[torch.device, torch.dtype], str | None], device: torch.device, dtype: torch.dtype
) -> str | None:
    """What a check found. That it raised counts: a compiler is missing, or a driver is too old."""
    try:
        return check(device, dtype)
    except Exception as error:
        logging.getLogger(__name__).exception("a kernel's check raised")
        text = str(error).strip()
        return f"its check raised {type(error).__name__}{f': {text.splitlines()[0]}' if text else ''}"


def _check_loss_head(device: torch.device, dtype: torch.dtype) -> str | None:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(_TOKENS, _WIDTH, generator=draw).to(device, dtype)
    weight = (torch.randn(_VOCABULARY, _WIDTH, generator=draw) / 8).to(device, dtype)
    labels = torch.randint(_VOCABULARY, (_TOKENS,), generator=draw).to(device)

    def ours(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy_sum(h, w, None, labels, chunk_bytes=4 * _VOCABULARY * 16)

    def reference(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional.linear(h.float(), w.float()), labels, reduction="sum")

    return _compare(ours, reference, (hidden, weight), dtype)


def _check_rms_norm(device: torch.device, dtype: torch.dtype) -> str | None:
    """Check every variant of the norm that a model family uses."""
    found = (_check_rms_norm_of(norm, device, dtype) for norm in liger_norms())
    return next(filter(None, found), None)


def _check_rms_norm_of(norm: LigerNorm, device: torch.device, dtype: torch.dtype) -> str | None:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(_TOKENS, 64, generator=draw).to(device, dtype)
    gain = (1 + torch.randn(64, generator=draw) / 8).to(device, dtype)

    def ours(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = LigerRMSNormFunction.apply(x, g, 1e-6, norm.offset, norm.casting, False)
        return normed.float().square().sum()

    def reference(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x.float(), (64,), norm.offset + g.float(), 1e-6).square().sum()

    return _compare(ours, reference, (rows, gain), dtype)


def _check_swiglu(device: torch.device, dtype: torch.dtype) -> str | None:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    draw = torch.Generator().manual_seed(2)
    gate, up = (torch.randn(_TOKENS, 64, generator=draw).to(device, dtype) for _ in range(2))

    def ours(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = LigerSiLUMulFunction.apply(a, b)
        return product.float().square().sum()

    def reference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (functional.silu(a.float()) * b.float()).square().sum()

    return _compare(ours, reference, (gate, up), dtype)


def _check_rope(device: torch.device, dtype: torch.dtype) -> str | None:
    """Check the rotation of queries and keys by angles per position (Su et al., arXiv 2104.09864)."""
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    draw = torch.Generator().manual_seed(4)
    query, key = (torch.randn(1, heads, _TOKENS, 32, generator=draw).to(device, dtype) for heads in (4, 2))
    angles = torch.outer(torch.arange(_TOKENS), 10_000 ** (-torch.arange(16) / 16)).repeat(1, 2)[None]
    cosines, sines = angles.cos().to(device, dtype), angles.sin().to(device, dtype)

    def ours(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        turned: tuple[torch.Tensor, torch.Tensor] = liger_rotary_pos_emb(q.clone(), k.clone(), cosines, sines)
        return _scalar(*turned)

    def reference(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return _scalar(*(_turned(part.float(), cosines, sines) for part in (q, k)))

    return _compare(ours, reference, (query, key), dtype)


def _check_attention(kernel: str, heads: Heads, device: torch.device, dtype: torch.dtype) -> str | None:
    """Check attention with one document in a row, and for decoders with two that do not see each other."""
    for lengths in ((_TOKENS,), (40, _TOKENS - 40)) if heads.causal else ((_TOKENS,),):
        if difference := _check_attention_of(kernel, heads, lengths, device, dtype):
            return f"with {len(lengths)} documents in a row {difference}"
    return None


def _check_attention_of(
    kernel: str, heads: Heads, lengths: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> str | None:
    # Imported here because it loads torch's compiler, which a start without such a check avoids.
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    draw = torch.Generator().manual_seed(5)
    query, key, value = (
        torch.randn(1, count, _TOKENS, heads.size, generator=draw).to(device, dtype)
        for count in (heads.queries, heads.keys, heads.keys)
    )
    shared = heads.queries // heads.keys
    documents_T = torch.cat([torch.full((length,), n) for n, length in enumerate(lengths)]).to(device)
    seen_TT = documents_T[:, None] == documents_T
    if heads.causal:
        seen_TT = seen_TT.tril()
    # Arguments as in a layer of transformers; flash attention gets the documents' limits and no mask.
    layer = SimpleNamespace(
        is_causal=heads.causal,
        num_key_value_groups=shared,
        config=SimpleNamespace(_attn_implementation=kernel),
    )
    flash, alone = kernel == "flash_attention_2", len(lengths) == 1
    limits_L = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    limits = documents_for_flash(limits_L, max(lengths)) if flash else {}
    mask = None if flash or alone else seen_TT[None, None]

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out_BTHS, _ = ALL_ATTENTION_FUNCTIONS[kernel](layer, q, k, v, mask, dropout=0.0, **limits)
        return _cubes(out_BTHS)

    def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        k, v = (part.float().repeat_interleave(shared, 1) for part in (k, v))
        scores_BHTT = (q.float() @ k.transpose(2, 3) / heads.size**0.5).masked_fill(~seen_TT, -math.inf)
        return _cubes(scores_BHTT.softmax(-1) @ v)

    return _compare(ours, reference, (query, key, value), dtype)


def _cubes(values: torch.Tensor) -> torch.Tensor:
    """Return a sum that is far from zero and whose gradient depends on the values."""
    total: torch.Tensor = ((values.float() + 1) ** 3).sum()
    return total


def _scalar(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return a scalar of both that, unlike a norm, changes under rotation."""
    return _cubes(query) + ((key.float() - 1) ** 3).sum()


def _turned(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat((-second, first), dim=-1) * sines


def _check_optimizer(kernel: str, device: torch.device, _dtype: torch.dtype) -> str | None:
    """Check three steps in fp32, the dtype of the master weights; cpu_adam's are on the host."""
    where = torch.device("cpu") if kernel == "cpu_adam" else device
    draw = torch.Generator().manual_seed(3)
    start = torch.randn(_TOKENS, generator=draw).to(where)
    slopes = [torch.randn(_TOKENS, generator=draw).to(where) for _ in range(3)]
    ends = []
    for name in (kernel, REFERENCE):
        weight = torch.nn.Parameter(start.clone())
        group = {"params": [weight], "weight_decay": 0.1}
        optimizer = make_adamw(name, [group], lr=0.1, betas=(0.9, 0.95), eps=1e-8)
        for slope in slopes:
            weight.grad = slope.clone()
            optimizer.step()
        ends.append(weight.detach())
    apart = float((ends[0] - ends[1]).abs().max())
    return f"weights differ by {apart:.2g} after three steps" if apart > 1e-5 else None


def _compare(
    ours: Callable[..., torch.Tensor],
    reference: Callable[..., torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    dtype: torch.dtype,
) -> str | None:
    results = []
    for function in (ours, reference):
        leaves = [value.detach().clone().requires_grad_() for value in inputs]
        total = function(*leaves)
        torch.autograd.backward(total)
        gradients = [leaf.grad.double().flatten() for leaf in leaves if leaf.grad is not None]
        results.append((float(total.detach()), gradients))
    (value, gradients), (expected, expected_gradients) = results
    apart = abs(value - expected) / abs(expected)
    if not apart <= _LOSS_WITHIN[dtype]:
        return f"the value is {value:.6g} instead of {expected:.6g}"
    for found, right in zip(gradients, expected_gradients, strict=True):
        cosine = float(functional.cosine_similarity(found, right, dim=0))
        if not cosine >= _COSINE_AT_LEAST[dtype]:
            return f"a gradient differs in direction (cosine {cosine:.6f})"
    return None

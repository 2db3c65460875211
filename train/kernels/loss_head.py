"""Projection to the vocabulary fused with cross entropy, in chunks of tokens.

The matrix tokens x vocabulary never exists: each chunk's logits are turned into its loss and its gradients
before the next chunk. The number of matrix products per token is three, as without chunks, and there is no
second forward pass.

Shape legend: N trained tokens, D hidden size, V vocabulary, C tokens of a chunk.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch

from train.kernels.table import CHUNK_BYTES, logit_bytes

_BLOCK_ROWS = 4096
"""Number of vocabulary rows whose gradient is added at once, if products cannot add to fp32 sums."""
_HAS_FP32_SUMS = hasattr(torch.ops.aten.addmm, "dtype_out")
"""Whether this torch has products of bf16 or fp16 matrices that add to an fp32 matrix (only on CUDA)."""


def linear_cross_entropy_sum(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_N: torch.Tensor,
    chunk_bytes: int | None = None,
) -> torch.Tensor:
    """Return the sum of -ln p(label) over tokens, differentiable in all tensors but the labels.

    Logits have the dtype of the inputs; later values and the sum of the weights' gradient are fp32.

    Args:
        hidden_ND: Output of the last layer.
        weight_VD: Weight of the projection.
        bias_V: Bias of the projection or None.
        labels_N: Token to predict at each position.
        chunk_bytes: Memory for one chunk's logits.

    Returns:
        An fp32 scalar.
    """
    rows = _chunk_rows(weight_VD, chunk_bytes)
    total: torch.Tensor = _Chunked.apply(hidden_ND, weight_VD, bias_V, labels_N, rows)  # type: ignore[no-untyped-call]
    return total


def linear_cross_entropies(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_N: torch.Tensor,
    chunk_bytes: int | None = None,
) -> torch.Tensor:
    """Return -ln p(label) of each token, N, in fp32, without gradients.

    The arguments are those of `linear_cross_entropy_sum`.
    """
    rows = _chunk_rows(weight_VD, chunk_bytes)
    with torch.no_grad():
        chunk = _Chunk.of(min(rows, len(hidden_ND)), weight_VD)
        parts = [
            chunk.losses(hidden_CD, weight_VD, bias_V, labels_C)
            for hidden_CD, labels_C in zip(
                torch.split(hidden_ND, rows), torch.split(labels_N, rows), strict=True
            )
        ]
    return torch.cat(parts)


def _chunk_rows(weight_VD: torch.Tensor, chunk_bytes: int | None) -> int:
    """Return the number of tokens per chunk; None uses the chunk size for the weights' device."""
    if chunk_bytes is None:
        chunk_bytes = CHUNK_BYTES["cuda" if weight_VD.is_cuda else "cpu"]
    return max(1, chunk_bytes // (logit_bytes(weight_VD.element_size()) * len(weight_VD)))


class _Chunked(torch.autograd.Function):
    """The chunked loss. The gradient of a sum is known up to a factor, so the forward pass computes it."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd calls it by position
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_N: torch.Tensor,
        rows: int,
    ) -> torch.Tensor:
        """Return the loss of all chunks, and save their gradients if they are needed."""
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        training = any(ctx.needs_input_grad[:3])
        grad_hidden = torch.empty_like(hidden_ND) if training else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if training else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if training and bias_V is not None else None
        chunk = _Chunk.of(min(rows, len(hidden_ND)), weight_VD)
        for start in range(0, len(hidden_ND), rows):
            hidden_CD, labels_C = hidden_ND[start : start + rows], labels_N[start : start + rows]
            total += chunk.losses(hidden_CD, weight_VD, bias_V, labels_C).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            slope_CV = chunk.slopes(labels_C, grad_bias)
            torch.mm(slope_CV, weight_VD, out=grad_hidden[start : start + rows])
            _add_product(grad_weight, slope_CV, hidden_CD)
        if grad_hidden is not None and grad_weight is not None:
            dtype = weight_VD.dtype
            ctx.save_for_backward(
                grad_hidden, grad_weight.to(dtype), None if grad_bias is None else grad_bias.to(dtype)
            )
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        """Return the saved gradients times the incoming gradient."""
        [factor] = grad_outputs
        scaled = [
            None if saved is None else saved.mul_(factor.to(saved.dtype)) for saved in ctx.saved_tensors
        ]
        return (*scaled, None, None)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Buffers that all chunks share, since the system would have to clear newly allocated ones each time."""

    logits_CV: torch.Tensor
    """Logits in the dtype of the model, later their gradient."""
    wide_CV: torch.Tensor
    """Values in fp32; the same buffer if the model is fp32."""

    @classmethod
    def of(cls, rows: int, weight_VD: torch.Tensor) -> Self:
        """Return buffers for chunks of `rows` tokens."""
        logits_CV = weight_VD.new_empty(rows, len(weight_VD))
        wide = weight_VD.dtype == torch.float32
        return cls(logits_CV, logits_CV if wide else torch.empty_like(logits_CV, dtype=torch.float32))

    def losses(
        self,
        hidden_CD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_C: torch.Tensor,
    ) -> torch.Tensor:
        """Return -ln p(label) of each token, C, in fp32, and keep the probabilities for `slopes`."""
        logits_CV, wide_CV = self.logits_CV[: len(labels_C)], self.wide_CV[: len(labels_C)]
        if bias_V is None:
            torch.mm(hidden_CD, weight_VD.T, out=logits_CV)
        else:
            torch.addmm(bias_V, hidden_CD, weight_VD.T, out=logits_CV)
        if wide_CV.dtype != logits_CV.dtype:
            wide_CV.copy_(logits_CV)
        at_label_C1 = wide_CV.gather(1, labels_C[:, None])
        highest_C1 = wide_CV.amax(1, keepdim=True)
        wide_CV.sub_(highest_C1).exp_()
        sums_C1 = wide_CV.sum(1, keepdim=True)
        wide_CV.div_(sums_C1)
        return (sums_C1.log() + highest_C1 - at_label_C1)[:, 0]

    def slopes(self, labels_C: torch.Tensor, grad_bias_V: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the logits, C x V, in the model's dtype, and add the bias's gradient."""
        logits_CV, wide_CV = self.logits_CV[: len(labels_C)], self.wide_CV[: len(labels_C)]
        # The gradient is softmax minus one at the label.
        wide_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1.0
        if grad_bias_V is not None:
            grad_bias_V += wide_CV.sum(0)
        return wide_CV if wide_CV.dtype == logits_CV.dtype else logits_CV.copy_(wide_CV)


def _add_product(grad_weight: torch.Tensor, slope_CV: torch.Tensor, hidden_CD: torch.Tensor) -> None:
    """Add slope^T hidden to grad_weight, summed in fp32 over chunks."""
    if slope_CV.dtype == torch.float32:
        grad_weight.addmm_(slope_CV.T, hidden_CD)
        return
    if slope_CV.is_cuda and _HAS_FP32_SUMS:
        torch.addmm(grad_weight, slope_CV.T, hidden_CD, out_dtype=torch.float32, out=grad_weight)
        return
    # In blocks, so that no product of the weights' size exists and each block is added while it is in cache.
    blocks = zip(
        torch.split(grad_weight, _BLOCK_ROWS), torch.split(slope_CV, _BLOCK_ROWS, dim=1), strict=True
    )
    for grad_block, slope_block in blocks:
        grad_block.add_(slope_block.T @ hidden_CD)

"""Putting the chosen kernels into a model.

Shape legend: N trained tokens, D hidden size, L limits between documents.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from train.kernels.loss_head import linear_cross_entropies, linear_cross_entropy_sum
from train.kernels.table import KernelChoice


def attach_loss_head(head: Any, *, chunked: bool) -> None:
    """Let the output projection answer with losses when it is given labels.

    In the projection's own forward, so that DeepSpeed gathers its weight as usual, tied or not: `labels=`
    gives the sum over tokens, with `each_token=True` one loss per token (for evaluation: where it is chunked,
    without gradients).
    """
    project = head.forward

    def forward(
        hidden_ND: torch.Tensor, labels_N: torch.Tensor | None = None, *, each_token: bool = False
    ) -> torch.Tensor:
        if labels_N is None:
            logits: torch.Tensor = project(hidden_ND)
            return logits
        if chunked:
            losses = linear_cross_entropies if each_token else linear_cross_entropy_sum
            return losses(hidden_ND, head.weight, head.bias, labels_N)
        reduction = "none" if each_token else "sum"
        return functional.cross_entropy(project(hidden_ND).float(), labels_N, reduction=reduction)

    head.forward = forward


def apply_layer_kernels(model: torch.nn.Module, choices: Mapping[str, KernelChoice]) -> None:
    """Replace what layers compute: norms and feed-forwards of this model, RoPE in transformers' module."""
    engaged = {kernel: choices[kernel].name == "liger" for kernel in ("rms_norm", "swiglu", "rope")}
    if not any(engaged.values()):
        return
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False, **engaged
    )


def documents_for_flash(limits_L: torch.Tensor, longest: int) -> dict[str, Any]:
    """What a model's forward is told so that flash attention takes the documents of one row one by one.

    Without it transformers reads every layer's positions back from the device.

    Args:
        limits_L: Where documents begin, and where the last one ends; int32.
        longest: Tokens of the longest.
    """
    return {
        **dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), limits_L),
        **dict.fromkeys(("max_length_q", "max_length_k"), longest),
    }

"""Installs the chosen kernels in a model.

Shape legend: N trained tokens, D hidden size, L limits between documents.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from train.kernels.loss_head import linear_cross_entropies, linear_cross_entropy_sum
from train.kernels.table import KernelChoice


def attach_loss_head(head: Any, *, chunked: bool) -> None:
    """Replace the output projection's forward by one that returns losses if it gets labels.

    With labels it returns the sum over tokens, or with `each_token=True` one loss per token, for evaluation
    (without gradients if chunked). The loss is computed inside the projection's forward so that DeepSpeed
    gathers its weight as usual, tied or not.
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
    """Install the layer kernels: norms and feed-forwards in this model, RoPE in transformers' module."""
    engaged = {kernel: choices[kernel].name == "liger" for kernel in ("rms_norm", "swiglu", "rope")}
    if not any(engaged.values()):
        return
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False, **engaged
    )


def documents_for_flash(limits_L: torch.Tensor, longest: int) -> dict[str, Any]:
    """Return the forward arguments with which flash attention keeps the documents of a row apart.

    Without them transformers reads the positions back from the device in every layer.

    Args:
        limits_L: Start of each document and end of the last one; int32.
        longest: Number of tokens of the longest document.
    """
    return {
        **dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), limits_L),
        **dict.fromkeys(("max_length_q", "max_length_k"), longest),
    }

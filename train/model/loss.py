"""Sums of cross entropy, so that a mean over a whole global batch can be formed once.

Shape legend: B rows, T tokens, N trained tokens, D hidden size, V classes (vocabulary or labels).
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from train.data.render import IGNORED


def token_loss_sum(
    hidden_BTD: torch.Tensor,
    head: Callable[..., torch.Tensor],
    labels_N: torch.Tensor,
    target_positions_N: torch.Tensor,
) -> torch.Tensor:
    """Sum over trained tokens of -ln p(token | what precedes it), in fp32.

    The head is a projection that answers labels with losses (`train/kernels/apply.py`). Positions that are
    not trained are dropped before it: nothing of the size of the vocabulary is ever made for them. A batch
    without a trained token projects one position and weighs it with zero, so that all ranks run the same
    modules forward and backward.

    Args:
        hidden_BTD: What the model's last layer made.
        head: The projection.
        labels_N: The trained tokens.
        target_positions_N: Of the token before each, in B x T.
    """
    hidden = hidden_BTD.flatten(0, 1)
    if not len(labels_N):
        return head(hidden[:1]).float().sum() * 0.0
    return head(hidden.index_select(0, target_positions_N), labels_N)


def token_losses(
    hidden_BTD: torch.Tensor,
    head: Callable[..., torch.Tensor],
    labels_N: torch.Tensor,
    target_positions_N: torch.Tensor,
) -> torch.Tensor:
    """`token_loss_sum` of each row, B, for evaluation; a row without a trained token has 0."""
    rows, length, _ = hidden_BTD.shape
    hidden = hidden_BTD.flatten(0, 1)
    sums_B = torch.zeros(rows, device=hidden.device)
    if not len(labels_N):
        return sums_B + head(hidden[:1]).float().sum() * 0.0
    losses_N = head(hidden.index_select(0, target_positions_N), labels_N, each_token=True)
    return sums_B.index_add(0, target_positions_N // length, losses_N)


def class_loss_sum(logits_BV: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Sum over rows of -ln p(label), in fp32; ignored rows count nothing."""
    return functional.cross_entropy(logits_BV.float(), labels_B, ignore_index=IGNORED, reduction="sum")


def class_losses(logits_BV: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """-ln p(label) of each row, B, in fp32; 0 for ignored rows."""
    return functional.cross_entropy(logits_BV.float(), labels_B, ignore_index=IGNORED, reduction="none")

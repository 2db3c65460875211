"""Sums of cross entropy, from which the mean over the global batch is computed.

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
    """Return the sum over trained tokens of -ln p(token | preceding tokens), in fp32.

    The head is a projection that returns losses if it gets labels (`train/kernels/apply.py`). Positions that
    are not trained are dropped before it, so that no logits are computed for them. For a batch without
    trained tokens one position is projected with weight zero, so that all ranks run the same modules forward
    and backward.

    Args:
        hidden_BTD: Output of the model's last layer.
        head: The projection.
        labels_N: The trained tokens.
        target_positions_N: Position of the token before each of them, in B x T.
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
    """Return `token_loss_sum` of each row, B, for evaluation; 0 for rows without a trained token.

    The arguments are those of `token_loss_sum`.
    """
    rows, length, _ = hidden_BTD.shape
    hidden = hidden_BTD.flatten(0, 1)
    sums_B = torch.zeros(rows, device=hidden.device)
    if not len(labels_N):
        return sums_B + head(hidden[:1]).float().sum() * 0.0
    losses_N = head(hidden.index_select(0, target_positions_N), labels_N, each_token=True)
    return sums_B.index_add(0, target_positions_N // length, losses_N)


def class_loss_sum(logits_BV: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of -ln p(label), in fp32; ignored rows count as 0."""
    return functional.cross_entropy(logits_BV.float(), labels_B, ignore_index=IGNORED, reduction="sum")


def class_losses(logits_BV: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Return -ln p(label) of each row, B, in fp32; 0 for ignored rows."""
    return functional.cross_entropy(logits_BV.float(), labels_B, ignore_index=IGNORED, reduction="none")

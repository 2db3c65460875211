"""Activation checkpointing: which results a layer keeps for the backward pass and which it recomputes."""

import functools
from typing import Any, Literal

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_KEPT_PRODUCTS = ("aten::mm", "aten::addmm")
_KEPT_ATTENTION = ("aten::_scaled_dot_product_", "flash_attn::", "flash_attn_3::")
"""Prefixes of the names of fused attention operators in torch and in the package flash-attn."""


def checkpoint_layers(model: Any, how: Literal["selective", "full"]) -> None:
    """Make each layer of a transformers model keep only its input and, with `selective`, expensive results.

    `selective` recomputes cheap operations: norms, rotations, activation functions, dropout. Measurements
    with eight Llama layers and 1,024 tokens in sequences of 512 (MB that the forward pass keeps):

        no checkpointing                          95    with eager attention 300
        products and fused attention kept         51    47
        ... and batched products (bmm) too        51    119
        every second product and attention        33    29
        only the inputs (`full`)                   6     7

    Batched products are the scores of eager attention, tokens x tokens for each head. Keeping them would
    double the memory, so they are recomputed. Keeping every second product, as torchtitan does, saves a third
    more but computes half of the projections twice. `full` saves still more memory.

    Args:
        model: A transformers model.
        how: `selective` or `full`.
    """
    settings: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        settings["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def _policy(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    name = operator.name().partition(".")[0]
    kept = name in _KEPT_PRODUCTS or name.startswith(_KEPT_ATTENTION)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

"""What the forward pass of a layer keeps for the backward pass, and what is computed again there."""

import functools
from typing import Any, Literal

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_KEPT_PRODUCTS = ("aten::mm", "aten::addmm")
_KEPT_ATTENTION = ("aten::_scaled_dot_product_", "flash_attn::", "flash_attn_3::")
"""How the names of fused attention begin: torch's own for each device, and the package flash-attn's."""


def checkpoint_layers(model: Any, how: Literal["selective", "full"]) -> None:
    """Let each layer of a transformers model keep its input, and with `selective` the costly results, alone.

    `selective` recomputes whatever is cheap: norms, rotations, activation functions, dropout. Two choices
    were measured (eight Llama layers, 1,024 tokens in sequences of 512; MB that the forward pass leaves):

        everything kept                           95    with eager attention 300
        products and fused attention kept         51    47
        ... and batched products (bmm) too        51    119
        every second product and attention        33    29
        nothing but the inputs (`full`)            6     7

    Batched products are eager attention's scores, tokens x tokens of every head: kept, they would double what
    is left, so they are made anew. Every second product (torchtitan's choice) saves a third more, for half of
    the projections made twice; here none is, and who needs more memory takes `full`.
    """
    settings: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        settings["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def _policy(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    name = operator.name().partition(".")[0]
    kept = name in _KEPT_PRODUCTS or name.startswith(_KEPT_ATTENTION)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

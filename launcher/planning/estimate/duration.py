"""Estimate of the training time on GPUs. Pure functions."""

from launcher.planning.estimate.shape import ModelShape
from train.flops import ModelWork

_MODEL_FLOPS_UTILISATION = 0.35
"""Assumed share of the bf16 peak in dense fine-tuning on one node; public tables list 0.33 to 0.46 (H100)."""


def model_work(shape: ModelShape) -> ModelWork:
    """Return the quantities that determine the FLOPs per token."""
    return ModelWork(
        multiplied_parameters=shape.other_parameters + shape.tied_parameters,
        layers=shape.layers,
        hidden=shape.hidden,
        causal=shape.kind == "decoder",
    )


def flops_per_token(shape: ModelShape, sequence: int) -> float:
    """Return the FLOPs of forward and backward pass per token, in sequences of this length."""
    return model_work(shape).flops(tokens=1, pairs=sequence)


def estimate_seconds(
    shape: ModelShape, *, tokens: int, sequence: int, gpus: int, peak_tflops: float | None, recompute: bool
) -> float | None:
    """Estimate the training time at the assumed utilisation.

    Args:
        shape: Shape of the model.
        tokens: Number of tokens in the whole run.
        sequence: Length of a sequence in tokens.
        gpus: Number of GPUs.
        peak_tflops: Peak of one GPU in bf16.
        recompute: Whether the forward pass is computed twice (activation checkpointing).

    Returns:
        Seconds, or None if the peak is unknown (CPUs).
    """
    if peak_tflops is None:
        return None
    work = tokens * flops_per_token(shape, sequence) * (4 / 3 if recompute else 1)
    return work / (gpus * peak_tflops * 1e12 * _MODEL_FLOPS_UTILISATION)

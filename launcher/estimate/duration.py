"""How long a run takes, where that can be said before it ran. Pure."""

from launcher.estimate.shape import ModelShape

_MODEL_FLOPS_UTILISATION = 0.35
"""Share of the bf16 peak that a dense fine-tune reaches on one node: 0.33 to 0.46 in public tables (H100)."""


def flops_per_token(shape: ModelShape, sequence: int) -> float:
    """Forward and backward: 6 (P - P_embedding) + 6 L h s, causal attention at half as Megatron counts it."""
    return 6 * (shape.parameters - shape.embedding_parameters) + 6 * shape.layers * shape.hidden * sequence


def estimate_seconds(
    shape: ModelShape, *, tokens: int, sequence: int, gpus: int, peak_tflops: float | None, recompute: bool
) -> float | None:
    """Training time at the assumed utilisation; None where the peak is unknown (CPUs)."""
    if peak_tflops is None:
        return None
    work = tokens * flops_per_token(shape, sequence) * (4 / 3 if recompute else 1)
    return work / (gpus * peak_tflops * 1e12 * _MODEL_FLOPS_UTILISATION)

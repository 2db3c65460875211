"""How long a run takes, where that can be said before it ran. Pure."""

from launcher.planning.estimate.shape import ModelShape
from train.flops import ModelWork

_MODEL_FLOPS_UTILISATION = 0.35
"""Share of the bf16 peak that a dense fine-tune reaches on one node: 0.33 to 0.46 in public tables (H100)."""


def model_work(shape: ModelShape) -> ModelWork:
    """What the model multiplies for each token."""
    return ModelWork(
        multiplied_parameters=shape.other_parameters + shape.tied_parameters,
        layers=shape.layers,
        hidden=shape.hidden,
        causal=shape.kind == "decoder",
    )


def flops_per_token(shape: ModelShape, sequence: int) -> float:
    """Forward and backward, in sequences of this length."""
    return model_work(shape).flops(tokens=1, pairs=sequence)


def estimate_seconds(
    shape: ModelShape, *, tokens: int, sequence: int, gpus: int, peak_tflops: float | None, recompute: bool
) -> float | None:
    """Training time at the assumed utilisation; None where the peak is unknown (CPUs)."""
    if peak_tflops is None:
        return None
    work = tokens * flops_per_token(shape, sequence) * (4 / 3 if recompute else 1)
    return work / (gpus * peak_tflops * 1e12 * _MODEL_FLOPS_UTILISATION)

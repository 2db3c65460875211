"""Counts floating-point operations of training, by the convention of the literature. Torch-free."""

from pydantic import BaseModel, ConfigDict


class ModelWork(BaseModel):
    """The sizes of a dense transformer that determine its matrix products."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    multiplied_parameters: int
    """Number of parameters in matrix products of each token: all except embeddings; an output projection
    counts even if it shares the weights of the embeddings."""
    layers: int
    hidden: int
    causal: bool

    def flops(self, *, tokens: int, pairs: int) -> float:
        """Return the FLOPs of forward and backward pass, counted as in Megatron-LM.

        Each token takes 6 P, and each pair of tokens that attend to each other 12 L d. A causal mask halves
        the second term: 6 L d s per token of a sequence of length s. Recomputed activations do not count, and
        untrained positions count as if they were projected to the vocabulary. Tables that count causal
        attention in full (llm-foundry) have values that are a few percent higher.

        Args:
            tokens: Number of tokens, without padding.
            pairs: Sum of the squared lengths of the documents, as packed documents do not attend to each
                other. A single sequence of s tokens has s * s pairs.
        """
        attention = (6 if self.causal else 12) * self.layers * self.hidden
        return 6.0 * self.multiplied_parameters * tokens + float(attention) * pairs


class SpeedPlan(BaseModel):
    """The figures that a rank needs to compute MFU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peak_tflops: float
    """Dense bf16 peak of one rank's device, for every training precision."""
    work: ModelWork


def utilisation(speed: SpeedPlan, *, tokens: int, pairs: int, seconds: float, ranks: int) -> float:
    """Return the model FLOPs utilisation (MFU): the model's FLOPs over the peak FLOPs of all ranks.

    Args:
        speed: Peak speed and sizes of the model.
        tokens: Number of tokens, without padding.
        pairs: See `ModelWork.flops`.
        seconds: Duration.
        ranks: Number of ranks.
    """
    return speed.work.flops(tokens=tokens, pairs=pairs) / (seconds * ranks * speed.peak_tflops * 1e12)

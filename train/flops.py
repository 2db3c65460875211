"""How many floating-point operations training takes, by the convention that papers compare by. Torch-free."""

from pydantic import BaseModel, ConfigDict


class ModelWork(BaseModel):
    """What a dense transformer multiplies for its tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    multiplied_parameters: int
    """Those that each token meets in a matrix product: all but looked-up embeddings; an output projection
    counts also where it shares its weights with them."""
    layers: int
    hidden: int
    causal: bool

    def flops(self, *, tokens: int, pairs: int) -> float:
        """Forward and backward, as Megatron-LM counts: model FLOPs, causal attention at half.

        6 P per token, plus 12 L d per pair of tokens that may see each other, of which a causal mask leaves
        half: 6 L d s per token of a sequence of s. Recomputed activations do not count, nor does it matter
        that untrained positions are not projected to the vocabulary. Tables that count causal attention in
        full (llm-foundry) show a few percent more.

        Args:
            tokens: Without padding.
            pairs: Sum over documents of the square of their length: tokens of two documents in one packed
                sequence do not see each other. A single sequence of s tokens has s * s.
        """
        attention = (6 if self.causal else 12) * self.layers * self.hidden
        return 6.0 * self.multiplied_parameters * tokens + float(attention) * pairs


class SpeedPlan(BaseModel):
    """What a rank needs to tell which share of its device's peak it reaches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peak_tflops: float
    """Dense bf16 peak of one rank's device, whatever precision is trained in."""
    work: ModelWork


def utilisation(speed: SpeedPlan, *, tokens: int, pairs: int, seconds: float, ranks: int) -> float:
    """Model FLOPs utilisation (MFU): the model's FLOPs over those that all ranks could have done."""
    return speed.work.flops(tokens=tokens, pairs=pairs) / (seconds * ranks * speed.peak_tflops * 1e12)

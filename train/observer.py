"""The interface of observers, which are called around the steps of training. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSize:
    """The size of global batches, over all ranks."""

    tokens: int = 0
    """Number of tokens, without padding."""
    trained: int = 0
    """Number of trained tokens, over which the loss is summed."""
    pairs: int = 0
    """Sum of the squared lengths of the documents, for the FLOPs of attention."""

    def __add__(self, other: "StepSize") -> "StepSize":
        return StepSize(
            tokens=self.tokens + other.tokens,
            trained=self.trained + other.trained,
            pairs=self.pairs + other.pairs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One trained global batch."""

    step: int
    sample_ids: list[int]
    """Numbers of the documents in the global batch, in order."""
    size: StepSize
    applied: bool
    """Whether the weights were updated; they are not if any gradient is not finite."""


class StepObserver:
    """Called around every step. An observer overrides the methods that it needs.

    The observers are listed in one tuple (`train/rank/setup.py`) and nest like `with` statements: `before` is
    called in the order of the tuple, `after` and `close` in the reverse order.
    """

    def before(self, step: int) -> None:
        """Run before the first micro-batch of a step."""

    def after(self, done: StepDone) -> None:
        """Run after the optimizer step."""

    def close(self) -> None:
        """Run once after training has ended or stopped; not after a failure."""

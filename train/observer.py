"""What watches the steps of a training without taking part in them: the interface. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSize:
    """What global batches held, over all ranks."""

    tokens: int = 0
    """Tokens without padding."""
    trained: int = 0
    """Tokens that the loss is a sum over."""
    pairs: int = 0
    """Sum over documents of the square of their length, for the FLOPs of attention."""

    def __add__(self, other: "StepSize") -> "StepSize":
        return StepSize(
            tokens=self.tokens + other.tokens,
            trained=self.trained + other.trained,
            pairs=self.pairs + other.pairs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One global batch that was trained."""

    step: int
    sample_ids: list[int]
    """Numbers of the documents of the global batch, in its order."""
    size: StepSize
    applied: bool
    """Whether the weights were updated; a gradient that is not finite leaves them as they were."""


class StepObserver:
    """Called around every step. An observer overrides the methods that it needs.

    The observers of a training stand in one tuple (`train/rank/setup.py`). They nest like `with` statements:
    `before` is called in the order of the tuple, `after` and `close` in the reverse order.
    """

    def before(self, step: int) -> None:
        """Called before the first micro-batch of a step."""

    def after(self, done: StepDone) -> None:
        """Called when the optimizer has made the step."""

    def close(self) -> None:
        """Called once, when the training has reached its end or has stopped; not when it failed."""

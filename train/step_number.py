"""The step that a rank is at, in one place. Torch-free."""

from dataclasses import dataclass


@dataclass(slots=True)
class StepNumber:
    """The step in progress; between two steps, the one just made. Only the loop sets it.

    `Progress.step` counts finished steps and is saved in checkpoints; this number is for heartbeats and for
    injected faults, which concern a step while it runs.
    """

    value: int = 0

"""The current step of a rank, shared by several users. Torch-free."""

from dataclasses import dataclass


@dataclass(slots=True)
class StepNumber:
    """The current step; between two steps, the last one. Only the loop sets it.

    `Progress.step` counts finished steps and is saved in checkpoints. This number is for heartbeats and
    injected faults, which need the step while it runs.
    """

    value: int = 0

"""Writes the sample ids of every global batch, for train.trace. Used on rank 0 only."""

import torch

from train.metrics import TraceRow, log_trace
from train.observer import StepDone, StepObserver
from train.rundir import RunDir


class BatchTrace(StepObserver):
    """Writes one line of trace.jsonl per step."""

    def __init__(self, run_dir: RunDir, attempt: int) -> None:
        self._run_dir = run_dir
        self._attempt = attempt

    def after(self, done: StepDone) -> None:
        """Write the ids, and a random number that shows the generator's state after the step."""
        random = float(torch.rand(()))
        row = TraceRow(attempt=self._attempt, step=done.step, sample_ids=done.sample_ids, random=random)
        log_trace(self._run_dir, row)

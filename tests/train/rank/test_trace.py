"""The trace of global batches: ids, and a number that shows the state of the generator."""

from pathlib import Path

import torch

from train.metrics import read_trace
from train.observer import StepDone, StepSize
from train.rank.trace import BatchTrace
from train.rundir import RunDir


def done(step: int, ids: list[int]) -> StepDone:
    return StepDone(step=step, sample_ids=ids, size=StepSize(), applied=True)


def test_each_step_is_a_row_and_the_generator_shows(tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first = BatchTrace(RunDir(tmp_path), attempt=1)
        first.after(done(1, [3, 1]))
        first.after(done(2, [0, 2]))
        torch.manual_seed(5)
        BatchTrace(RunDir(tmp_path), attempt=2).after(done(1, [3, 1]))
    rows = read_trace(RunDir(tmp_path))
    assert [(row.attempt, row.step, row.sample_ids) for row in rows] == [
        (1, 1, [3, 1]),
        (1, 2, [0, 2]),
        (2, 1, [3, 1]),
    ]
    assert rows[0].random == rows[2].random
    assert rows[0].random != rows[1].random

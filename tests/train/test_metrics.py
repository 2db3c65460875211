"""The metrics of a run as they are read back."""

from tests.rows import metrics_row
from train.metrics import latest_by_step


def test_metrics_read_back_give_each_step_once():
    rows = [metrics_row(step, attempt=attempt) for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3))]
    assert latest_by_step(rows) == [rows[0], rows[2], rows[3]]

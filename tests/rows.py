"""Records as tests need them: what a test does not name has a harmless value."""

from typing import Any

from train.metrics import MetricsRow
from train.result import BestCheckpoint, Evaluation, Finished


def metrics_row(step: int, loss: float | None = 1.0, **more: Any) -> MetricsRow:
    """One logged step of the first attempt."""
    values: dict[str, Any] = {
        "attempt": 1,
        "lr": 1e-3,
        "tokens": 10 * step,
        "samples": step,
        "grad_norm": None,
        "tokens_per_s": 9.0,
        "time": float(step),
    }
    return MetricsRow(step=step, loss=loss, **{**values, **more})


def finished(**more: Any) -> Finished:
    """The result of a run that made 40 steps."""
    values: dict[str, Any] = {
        "step": 40,
        "total_steps": 40,
        "samples": 320,
        "tokens": 4000,
        "attempts": 1,
        "restarts": 0,
        "job_id": "7",
        "seconds_since_first_submit": 9.0,
        "allocated_s": 8.0,
        "rank_hours": 0.01,
        "tokens_per_s": 900.0,
        "best": BestCheckpoint(step=None, validation_loss=None),
        "evaluated_step": 40,
        "evaluation": Evaluation(base={}, tuned={}),
        "answers": [],
        "export": "/runs/r/export",
        "peak_rss_gb_per_rank": [0.5],
    }
    return Finished(**{**values, **more})

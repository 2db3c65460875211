"""plan.json: what was decided before a run was submitted. One writer, one reader for each half of it.

The ranks' half, with all its fields, is read by `train.job.read_training_plan`.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.records.base import RecordError
from train.rundir import RunDir, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class PlannedLength:
    """The part of a plan that `status` needs; reading it does without pydantic."""

    total_steps: int | None
    """None where only the tokenised data tells."""


def write_plan(run: RunDir, plan: "DataclassInstance | dict[str, Any]") -> None:
    """Write plan.json, whole: a `RunPlan`, or its values as a sweep's file keeps them."""
    write_json(run.plan, plan)


def read_planned_length(run: RunDir) -> PlannedLength:
    """How long a run was planned to be.

    Raises:
        RecordError: the file does not hold it.
    """
    plan = json.loads(run.plan.read_text())
    time = plan.get("time") if isinstance(plan, dict) else None
    if not isinstance(time, dict) or "total_steps" not in time:
        raise RecordError(f"{run.plan}: missing field time.total_steps")
    return PlannedLength(time["total_steps"])

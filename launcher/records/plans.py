"""The file plan.json: all decisions made before a run was submitted.

The part for the ranks is read by `train.job.read_training_plan`.
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
    """The part of a plan that `status` needs, read without importing pydantic."""

    total_steps: int | None
    """None if the number is not known until the data is tokenised."""


def write_plan(run: RunDir, plan: "DataclassInstance | dict[str, Any]") -> None:
    """Write plan.json from a `RunPlan`, or from its values in a sweep file."""
    write_json(run.plan, plan)


def read_planned_length(run: RunDir) -> PlannedLength:
    """Read the planned length of a run.

    Raises:
        RecordError: The field is missing.
    """
    plan = json.loads(run.plan.read_text())
    time = plan.get("time") if isinstance(plan, dict) else None
    if not isinstance(time, dict) or "total_steps" not in time:
        raise RecordError(f"{run.plan}: missing field time.total_steps")
    return PlannedLength(time["total_steps"])

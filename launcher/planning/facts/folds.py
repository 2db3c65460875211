"""Assignment of the training rows to the folds of a cross-validation; ranks later compute the same one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from launcher.config import RunConfig
from launcher.errors import Problem
from train.config import DataRole
from train.data.folds import FoldError, folds_sha256
from train.data.parts import fold_of_each_row
from train.job import DataFile, FoldPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFacts:
    """The folds as the plan records them, and the data files with the number of rows that this run uses."""

    plan: FoldPlan | None
    data: dict[DataRole, DataFile]


def look_at_folds(config: RunConfig, data: Mapping[DataRole, DataFile]) -> tuple[FoldFacts, list[Problem]]:
    """Assign the training rows to the folds of a config.

    Args:
        config: The config of the run.
        data: Files by role, without `train` if that file or one of its rows is invalid.

    Returns:
        The folds and files, and the problems that were found.
    """
    cv, none = config.cv, FoldFacts(plan=None, data=dict(data))
    if cv.folds is None or "train" not in data:
        return none, []
    file = data["train"]
    try:
        fold_of_row = fold_of_each_row(file, config.data.format, cv)
    except FoldError as error:
        return none, [
            Problem(code="cv.rows", field=obstacle.field, message=obstacle.message, fix=obstacle.fix)
            for obstacle in error.obstacles
        ]
    plan = FoldPlan(fold=cv.fold, folds=cv.folds, sha256=folds_sha256(fold_of_row))
    if cv.fold is None:
        return FoldFacts(plan=plan, data=dict(data)), []
    held_out = int(np.count_nonzero(fold_of_row == cv.fold))
    parts: dict[DataRole, DataFile] = {
        "train": file.model_copy(update={"rows": file.rows - held_out}),
        "held_out": file.model_copy(update={"rows": held_out}),
    }
    return FoldFacts(plan=plan, data={**data, **parts}), []

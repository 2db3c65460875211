"""The rows of the training file that a run trains on, and those that it holds out. Torch-free.

A row has one number everywhere: its place in the file, from 0. Folds are drawn once per content and kept
beside the prepared data, so that ranks, attempts and the runs of one cross-validation draw them together.
"""

import unicodedata
from importlib.metadata import version
from pathlib import Path

import numpy as np

from train.cache import cache_dir, key_of, made_once
from train.config import CrossValidationConfig, DataRole
from train.data.folds import draw_folds, folds_sha256, read_samples
from train.failures import DataError
from train.job import DataFile, TrainJob

_LAYOUT_VERSION = 1


def fold_of_each_row(file: DataFile, format_name: str, cv: CrossValidationConfig) -> np.ndarray:
    """Draw the folds of a training file, or open what was drawn of the same content before.

    Args:
        file: Its bytes are known to have this hash.
        format_name: `data.format`; its rows are known to be right.
        cv: With `folds` set; `fold` makes no difference.

    Returns:
        The fold of each row, int32, in the file's order.

    Raises:
        FoldError: the rows cannot be dealt so.
    """
    assert cv.folds is not None
    drawn_by = [version("scikit-learn"), version("scipy"), version("numpy"), unicodedata.unidata_version]
    recipe = [_LAYOUT_VERSION, file.sha256, format_name, cv.folds, cv.group, cv.seed, drawn_by]

    def write(path: Path) -> None:
        assert cv.folds is not None
        samples = read_samples(Path(file.path), format_name, cv.group)
        np.save(path, draw_folds(samples, folds=cv.folds, seed=cv.seed))

    fold_of_row: np.ndarray = np.load(made_once(cache_dir() / "folds" / f"{key_of(recipe)}.npy", write))
    return fold_of_row


def parts_by_role(job: TrainJob) -> dict[DataRole, np.ndarray]:
    """Rows of the training file for the roles `train` and `held_out`; empty for a run that holds none out.

    Raises:
        DataError: the folds drawn here differ from those that the run was planned with.
    """
    plan = job.plan.fold
    if plan is None or plan.fold is None:
        return {}
    fold_of_row = fold_of_each_row(job.plan.data["train"], job.config.data.format, job.config.cv)
    found = folds_sha256(fold_of_row)
    if found != plan.sha256:
        raise DataError(
            f"the folds drawn here (sha256 {found[:12]}) are not those of the plan ({plan.sha256[:12]}): this"
            " environment has other versions of scikit-learn, scipy or Python; use the one that submitted"
        )
    held_out = fold_of_row == plan.fold
    return {"train": np.flatnonzero(~held_out), "held_out": np.flatnonzero(held_out)}

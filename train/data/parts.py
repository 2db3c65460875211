"""The rows of the training file that a run trains on and those that it holds out. Torch-free.

A row's number is its position in the file, counted from 0. Folds are computed once per file content and
cached with the prepared data, so that all ranks, attempts and runs of one cross-validation share them.
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
    """Compute the folds of a training file, or load them from the cache.

    Args:
        file: The training file, whose hash and rows must already be checked.
        format_name: The value of `data.format`.
        cv: Settings with `folds` set; `fold` has no effect here.

    Returns:
        The fold of each row as int32, in file order.

    Raises:
        FoldError: The rows cannot be divided into these folds.
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
    """Return the training file's rows for the roles `train` and `held_out`; empty without a fold.

    Raises:
        DataError: The folds differ from those of the plan.
    """
    plan = job.plan.fold
    if plan is None or plan.fold is None:
        return {}
    fold_of_row = fold_of_each_row(job.plan.data["train"], job.config.data.format, job.config.cv)
    found = folds_sha256(fold_of_row)
    if found != plan.sha256:
        raise DataError(
            f"the folds (sha256 {found[:12]}) differ from those in the plan ({plan.sha256[:12]}): versions"
            " of scikit-learn, scipy or Python differ; use the environment that the run was submitted from"
        )
    held_out = fold_of_row == plan.fold
    return {"train": np.flatnonzero(~held_out), "held_out": np.flatnonzero(held_out)}

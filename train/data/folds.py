"""Assigns training rows to folds of a cross-validation, from the rows and a seed alone. Torch-free.

Rows that share a group or a content stay together, so that no fold leaks information about another.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.data.rows import read_rows
from train.failures import DataError
from train.formats.registry import format_named

_SHOWN_ROWS = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """The properties of a row that determine its fold."""

    content: bytes
    """Hash of the row's input; rows with an equal hash are duplicates."""
    group: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why folds cannot be assigned, and the fix."""

    field: str
    """The config key at fault."""
    message: str
    fix: str


class FoldError(DataError):
    """The rows cannot be divided into the requested folds."""

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        self.obstacles = tuple(obstacles)
        super().__init__("; ".join(f"{obstacle.message} ({obstacle.fix})" for obstacle in obstacles))


def read_samples(path: Path, format_name: str, group: str | None) -> list[Sample]:
    """Read the samples of a file, in file order; its rows must already be checked.

    Raises:
        FoldError: Rows have no valid group field; lists file and line of each.
    """
    samples, bad, total_bad = [], [], 0
    for row in read_rows(path):
        problem = _check_group(row.value, group)
        if problem is None:
            samples.append(_sample(row.value, format_name, group))
            continue
        total_bad += 1
        if total_bad <= _SHOWN_ROWS:
            bad.append(f"{row.location}: {problem}")
    if total_bad > _SHOWN_ROWS:
        bad.append(f"{path}: {total_bad - _SHOWN_ROWS} more rows like these")
    if bad:
        fix = "give every row this field, or choose another cv.group"
        raise FoldError([Obstacle("cv.group", line, fix) for line in bad])
    return samples


def draw_folds(samples: Sequence[Sample], *, folds: int, seed: int) -> np.ndarray:
    """Assign rows to folds with equal shares of each label; groups and duplicates are not divided.

    Rows that are linked by a group or a content, directly or through other rows, form one unit. The units are
    assigned by scikit-learn's StratifiedGroupKFold, in about 0.1 ms per unit and fold. The shares differ by
    one row if all units are single rows, and by more with large units.

    Returns:
        The fold of each row, counted from 0, in row order.

    Raises:
        FoldError: There are too few units or rows of a label, or one fold holds all rows of a label.
    """
    # Importing this takes a second, and most runs have no folds.
    from sklearn.model_selection import StratifiedGroupKFold

    units = linked_units(samples)
    labels = np.array([sample.label or "" for sample in samples])
    if obstacles := [*_too_few(units, labels, folds)]:
        raise FoldError(obstacles)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold_of_row = np.empty(len(samples), dtype=np.int32)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, units)):
        fold_of_row[held_out] = fold
    if obstacles := [*_unlearnt(fold_of_row, labels)]:
        raise FoldError(obstacles)
    return fold_of_row


def linked_units(samples: Sequence[Sample]) -> np.ndarray:
    """Return the unit of each row: a connected component of rows that share a group or a content."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, shared = [], []
    nodes: dict[tuple[str, str | bytes], int] = {}
    for row, sample in enumerate(samples):
        keys: list[tuple[str, str | bytes]] = [("content", sample.content)]
        if sample.group is not None:
            keys.append(("group", sample.group))
        for key in keys:
            rows.append(row)
            shared.append(len(samples) + nodes.setdefault(key, len(nodes)))
    size = len(samples) + len(nodes)
    links = coo_array((np.ones(len(rows), dtype=bool), (rows, shared)), shape=(size, size))
    units: np.ndarray = connected_components(links, directed=False)[1][: len(samples)]
    return units


def folds_sha256(fold_of_row: np.ndarray) -> str:
    """Return a hash of the folds, for comparison."""
    return hashlib.sha256(fold_of_row.astype("<i4").tobytes()).hexdigest()


def normalised(text: str) -> str:
    """Return the text with Unicode forms, case and white space normalised."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _sample(value: dict[str, Any], format_name: str, group: str | None) -> Sample:
    row_format = format_named(format_name)
    # No text contains a NUL character, so it separates turns unambiguously.
    content = hashlib.sha256("\0".join(map(normalised, row_format.asked(value))).encode()).digest()
    return Sample(
        content,
        None if group is None else str(value[group]),
        row_format.label(value) if row_format.label else None,
    )


def _check_group(value: dict[str, Any], group: str | None) -> str | None:
    if group is None:
        return None
    if group not in value:
        return f"the field {group!r} (cv.group) is missing (found: {', '.join(sorted(value))})"
    if not isinstance(value[group], str | int) or isinstance(value[group], bool):
        return f"the field {group!r} (cv.group) must be a string or an integer"
    return None if str(value[group]).strip() else f"the field {group!r} (cv.group) is empty"


def _too_few(units: np.ndarray, labels: np.ndarray, folds: int) -> Iterator[Obstacle]:
    count = len(np.unique(units))
    if count < folds:
        yield Obstacle(
            "cv.folds",
            f"{len(units)} rows form {count} groups after joining duplicates: too few for {folds} folds",
            f"set cv.folds={count} or less" if count > 1 else "add rows, or choose another cv.group",
        )
    label, rows = min(Counter(labels.tolist()).items(), key=lambda pair: (pair[1], pair[0]))
    if label and rows < folds:
        yield Obstacle(
            "cv.folds",
            f"the label {label!r} has {rows} row{'s' * (rows > 1)}, fewer than the {folds} folds",
            f"set cv.folds={rows} or less, or add rows with this label"
            if rows > 1
            else "add rows with this label",
        )


def _unlearnt(fold_of_row: np.ndarray, labels: np.ndarray) -> Iterator[Obstacle]:
    """Yield the labels of which one fold holds all rows: the run that holds it out cannot learn them."""
    for label in np.unique(labels):
        folds = np.unique(fold_of_row[labels == label])
        if label and len(folds) == 1:
            yield Obstacle(
                "cv.group",
                f"fold {folds[0]} has all rows with the label {str(label)!r}, so its run cannot learn it",
                "choose another cv.group, or add rows with this label to other groups",
            )

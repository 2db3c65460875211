"""Which fold of a cross-validation each training row belongs to, from the rows and a seed alone. Torch-free.

Rows that would tell a model about each other stay together: those of one group, and those of one content.
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
    """What the draw looks at of a row."""

    content: bytes
    """Hash of what is asked of the model; rows with an equal one are duplicates."""
    group: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why folds cannot be drawn, and what to do."""

    field: str
    """The key to blame."""
    message: str
    fix: str


class FoldError(DataError):
    """The rows cannot be dealt into folds as asked."""

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        self.obstacles = tuple(obstacles)
        super().__init__("; ".join(f"{obstacle.message} ({obstacle.fix})" for obstacle in obstacles))


def read_samples(path: Path, format_name: str, group: str | None) -> list[Sample]:
    """The samples of a file whose rows are known to be right for their format, in the file's order.

    Raises:
        FoldError: rows lack the group field; each is named by file and line.
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
    """Deal rows into folds with equal shares of each label, groups and duplicates whole.

    Rows linked by a group or by a content, directly or through others, are one unit, and scikit-learn's
    StratifiedGroupKFold deals the units, at about 0.1 ms for a unit and a fold. Shares differ by one row
    where units are single rows; large units make them less equal.

    Returns:
        The fold of each row, from 0, in the rows' order.

    Raises:
        FoldError: there are too few units or rows of a label, or a fold holds all rows of a label.
    """
    # Loading these takes a second, and most runs have no folds.
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
    """The unit of each row: connected components of rows that share a group or a content."""
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
    """Hash of a draw, by which two of them are compared."""
    return hashlib.sha256(fold_of_row.astype("<i4").tobytes()).hexdigest()


def normalised(text: str) -> str:
    """Text without what makes no difference in meaning: forms of a character, case, white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _sample(value: dict[str, Any], format_name: str, group: str | None) -> Sample:
    row_format = format_named(format_name)
    # No text holds a NUL character, so turns cannot run into each other.
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
        return f"the field {group!r} (cv.group) must be text or a whole number"
    return None if str(value[group]).strip() else f"the field {group!r} (cv.group) is empty"


def _too_few(units: np.ndarray, labels: np.ndarray, folds: int) -> Iterator[Obstacle]:
    count = len(np.unique(units))
    if count < folds:
        yield Obstacle(
            "cv.folds",
            f"{len(units)} rows make {count} groups, duplicates joined: too few for {folds} folds",
            f"set cv.folds={count} or less" if count > 1 else "add rows, or choose another cv.group",
        )
    label, rows = min(Counter(labels.tolist()).items(), key=lambda pair: (pair[1], pair[0]))
    if label and rows < folds:
        yield Obstacle(
            "cv.folds",
            f"the label {label!r} has {rows} row{'s' * (rows > 1)}, fewer than the {folds} folds",
            f"set cv.folds={rows} or less, or add rows of it" if rows > 1 else "add rows of it",
        )


def _unlearnt(fold_of_row: np.ndarray, labels: np.ndarray) -> Iterator[Obstacle]:
    """Labels that one fold holds out completely: the run without it could not learn them."""
    for label in np.unique(labels):
        folds = np.unique(fold_of_row[labels == label])
        if label and len(folds) == 1:
            yield Obstacle(
                "cv.group",
                f"fold {folds[0]} holds out every row of the label {str(label)!r}, so they cannot be learnt",
                "choose another cv.group, or add rows of it to other groups",
            )

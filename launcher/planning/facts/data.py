"""Facts about the data files of a config. Every row is read and checked against its format."""

import json
import os
from pathlib import Path

from launcher.config import RunConfig
from launcher.errors import Problem
from train.config import DataRole
from train.data.rows import SUFFIXES, check_row, file_sha256, read_rows
from train.formats.registry import format_named
from train.job import DataFile

_SHOWN_ROWS = 10


def look_at_data(config: RunConfig) -> tuple[dict[DataRole, DataFile], list[str], list[Problem]]:
    """Read all data files of a config.

    Returns:
        The files by role, the labels of the training rows, and the problems of files and rows.
    """
    named: dict[DataRole, tuple[str, str | None]] = {
        "train": ("data.train", config.data.train),
        "validation": ("data.validation", config.data.validation),
        # The test file is for the final model: a run with a fold is evaluated on its held-out rows.
        "test": ("data.test", config.data.test if config.cv.fold is None else None),
        "general": ("eval.general", config.eval.general),
    }
    files: dict[DataRole, DataFile] = {}
    problems: list[Problem] = []
    labels: set[str] = set()
    example = json.dumps(format_named(config.data.format).example)
    for role, (field, name) in named.items():
        if name is None:
            continue
        path = Path(name)
        if reason := _unreadable(path):
            fix = f"set {field} to a readable file ({', '.join(SUFFIXES)})"
            problems.append(Problem(code="data.file", field=field, message=reason, fix=fix))
            continue
        rows, bad, found_labels = _look_at_rows(path, config.data.format)
        problems += [
            Problem(
                code="data.row",
                field=field,
                message=line,
                fix=f"write the row as {example}, or set data.format (now {config.data.format})",
            )
            for line in bad
        ]
        if role == "train":
            labels = found_labels
        elif labels and (unknown := sorted(found_labels - labels)):
            problems.append(
                Problem(
                    code="data.label",
                    field=field,
                    message=f"{path} has labels that are not in the training rows: {', '.join(unknown)}",
                    fix=f"add training rows with these labels, or remove the rows from {path}",
                )
            )
        if rows == 0 and not bad:
            problems.append(
                Problem(code="data.file", field=field, message=f"{path} is empty", fix=f"add rows to {path}")
            )
        files[role] = DataFile(path=str(path), sha256=file_sha256(path), rows=rows)
    return files, sorted(labels), problems


def _unreadable(path: Path) -> str | None:
    if not path.is_file():
        return f"no such file: {path}"
    if path.suffix not in SUFFIXES:
        return f"unknown file type {path.suffix!r} of {path} (known: {', '.join(SUFFIXES)})"
    return None if os.access(path, os.R_OK) else f"permission denied: {path}"


def _look_at_rows(path: Path, format_name: str) -> tuple[int, list[str], set[str]]:
    """Return the number of valid rows, the problems (`file:line: reason`), and the labels."""
    row_format = format_named(format_name)
    good, bad, total_bad, labels = 0, [], 0, set()
    for row in read_rows(path):
        problem = check_row(row, format_name)
        if problem is None:
            good += 1
            if row_format.label:
                labels.add(row_format.label(row.value))
            continue
        total_bad += 1
        if total_bad <= _SHOWN_ROWS:
            bad.append(f"{row.location}: {problem}")
    if total_bad > _SHOWN_ROWS:
        bad.append(f"{path}: {total_bad - _SHOWN_ROWS} more invalid rows")
    return good, bad, labels

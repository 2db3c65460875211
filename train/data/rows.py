"""Reads and checks the rows of a data file, with their line numbers. Torch-free."""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.formats.registry import format_named

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or the problem that prevented reading it."""

    path: Path
    line: int
    """Line number (from 1) for .jsonl and .csv files, else the number of the row."""
    value: dict[str, Any]
    problem: str | None = None

    @property
    def location(self) -> str:
        """The location as `file:line`, which editors can open."""
        return f"{self.path}:{self.line}"


def read_rows(path: Path) -> Iterator[Row]:
    """Read all rows of a .jsonl, .json, .csv or .parquet file."""
    reader = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    return reader[path.suffix](path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_row(row: Row, format_name: str) -> str | None:
    """Return the problem of a row in this format, or None."""
    return row.problem or format_named(format_name).check(row.value)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                yield Row(path, number, {}, f"not valid UTF-8: {error.reason} at byte {error.start}")
                continue
            except ValueError as error:
                yield Row(path, number, {}, f"not valid JSON: {error}")
                continue
            yield _as_row(path, number, value)


def _read_json(path: Path) -> Iterator[Row]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        yield Row(path, 1, {}, f"not valid JSON: {error}")
        return
    if not isinstance(values, list):
        yield Row(path, 1, {}, "a .json file must contain one list of rows")
        return
    for number, value in enumerate(values, 1):
        yield _as_row(path, number, value)


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for value in reader:
                if None in value:
                    yield Row(path, reader.line_num, {}, "more columns than the header line")
                else:
                    yield _as_row(path, reader.line_num, {k: v for k, v in value.items() if v is not None})
        except (UnicodeDecodeError, csv.Error) as error:
            yield Row(path, reader.line_num + 1, {}, f"not a UTF-8 CSV file: {error}")


def _read_parquet(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for value in batch.to_pylist():
                number += 1
                yield _as_row(path, number, value)
    except (OSError, ArrowException) as error:
        yield Row(path, number + 1, {}, f"not a readable Parquet file: {error}")


def _as_row(path: Path, number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(path, number, value)
    return Row(path, number, {}, f"a row must be an object with named fields, not {type(value).__name__}")

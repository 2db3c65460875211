"""Reads W&B's offline files, which lack the steps that a killed process had not written yet."""

import json
from collections.abc import Iterator
from pathlib import Path

HEADER_BYTES, _BLOCK, _ENTRY = 7, 32768, 7
_FILES = "wandb/offline-run-*/run-*.wandb"
_FIRST_PARTS, _LAST_PARTS = (1, 2), (1, 4)
"""Kinds of entries: a whole record, or the first and last part of a divided one."""
_TAIL_BLOCKS = 8


def recorded_steps(root: Path) -> list[int]:
    """Return the training steps in the offline files of a run directory, with repetitions."""
    return [step for path in root.glob(_FILES) for step in _steps(path.read_bytes(), HEADER_BYTES)]


def newest_recorded_step(root: Path) -> int:
    """Return the newest training step in the newest offline file of a run directory, or 0."""
    path = max(root.glob(_FILES), key=lambda path: path.stat().st_mtime, default=None)
    if path is None:
        return 0
    size = path.stat().st_size
    start = max(0, size // _BLOCK - _TAIL_BLOCKS) * _BLOCK
    with path.open("rb") as file:
        file.seek(start)
        return max(_steps(file.read(), 0 if start else HEADER_BYTES), default=0)


def _steps(data: bytes, at: int) -> Iterator[int]:
    from wandb.proto.wandb_internal_pb2 import Record

    for record in read_records(data, at):
        items = Record.FromString(record).history.item
        values = {item.key or "/".join(item.nested_key): item.value_json for item in items}
        if "train/loss" in values and "train/step" in values:
            yield int(json.loads(values["train/step"]))


def read_records(data: bytes, at: int) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format.

    The format has blocks of 32 KiB; an entry has a checksum (4 bytes), a size (2) and a kind (1).

    Args:
        data: Bytes from the start of a block; the first entries may continue an earlier record.
        at: Offset of the first entry.
    """
    parts: bytes | None = None
    while at + _ENTRY <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _ENTRY:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + _ENTRY + size > len(data):
            return
        part = data[at + _ENTRY : at + _ENTRY + size]
        at += _ENTRY + size
        if kind in _FIRST_PARTS:
            parts = part
        elif parts is not None:
            parts += part
        if kind in _LAST_PARTS and parts is not None:
            yield parts
            parts = None

"""What W&B's offline files hold: a killed process takes along what its W&B service had not written yet."""

import json
from collections.abc import Iterator
from pathlib import Path

_HEADER, _BLOCK, _ENTRY = 7, 32768, 7
_LAST_PARTS = (1, 4)
"""Whole records, and the ends of those that were cut into parts."""


def recorded_steps(root: Path) -> list[int]:
    """Training steps that stand in the offline files of a run directory, as often as they do."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for path in root.glob("wandb/offline-run-*/run-*.wandb"):
        for data in _records(path.read_bytes()):
            items = Record.FromString(data).history.item
            values = {item.key or "/".join(item.nested_key): item.value_json for item in items}
            if "train/loss" in values and "train/step" in values:
                steps.append(int(json.loads(values["train/step"])))
    return steps


def _records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log format: blocks of 32 KiB, of entries with checksum (4), size (2) and kind (1)."""
    at, parts = _HEADER, b""
    while at + _ENTRY <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _ENTRY:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + _ENTRY + size > len(data):
            return
        parts += data[at + _ENTRY : at + _ENTRY + size]
        at += _ENTRY + size
        if kind in _LAST_PARTS:
            yield parts
            parts = b""

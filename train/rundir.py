"""The run directory: the names in it, and how they are written. Torch-free.

Launcher and ranks meet here and nowhere else. Text before pickle; a file is either whole or absent.
"""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from train.records.base import RunEvent, event_row, parse_line

STOPPED_BY_USER = "shardline stop"
STOPPED_AT_RUNG = "sweep.halving"
FINAL_STOPS = (STOPPED_BY_USER, STOPPED_AT_RUNG)
"""Reasons in the journal of stops that nothing follows."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that readers and crashes see the old content or the new, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` for dataclasses, pydantic models and plain values."""
    write_atomic(path, to_json(value, indent=2) + b"\n")


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_DELAYED: dict[Path, list[bytes]] = {}
"""Lines that a full disk did not take, until it takes them."""


def append_line(path: Path, row: dict[str, Any], *, patient: bool = False) -> None:
    """Append one JSON line with a single write, so that concurrent writers never mix.

    A line that a full disk or a power cut left without its end is closed first, so that it spoils no other.

    Args:
        path: A .jsonl file.
        row: What to write.
        patient: Keep the line in memory while the disk is full, and write it with the next one.

    Raises:
        OSError: it cannot be written; not for a full disk when patient.
    """
    line = json.dumps(row).encode() + b"\n"
    waiting = _DELAYED.pop(path, [])
    try:
        _append(path, b"".join([*waiting, line]))
    except OSError as error:
        if not patient or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _DELAYED[path] = [*waiting, line]


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * torn + data)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file; lines that a kill cut short are left out."""
    for line in new_lines(path, 0)[0]:
        value = parse_line(line)
        if value is not None:
            yield value


def new_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """Whole lines of a growing file from a byte offset on, and the offset after them."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        text, newline, _rest = file.read().rpartition(b"\n")
    return (text.split(b"\n"), offset + len(text) + 1) if newline else ([], offset)


@dataclass(frozen=True, slots=True)
class JournaledDir:
    """What every directory of ours has: jobs, a journal, and one degree of privacy."""

    root: Path

    @property
    def jobs(self) -> Path:
        """One line before something is handed over to a job, one with the job's id after."""
        return self.root / "jobs.jsonl"

    @property
    def events(self) -> Path:
        """The journal."""
        return self.root / "events.jsonl"

    def adopt_umask(self) -> None:
        """Make whatever this process and its children write as private as the directory is."""
        shared = self.root.stat().st_mode & 0o020
        os.umask(0o007 if shared else 0o077)


@dataclass(frozen=True, slots=True)
class RunDir(JournaledDir):
    """All names in one run directory."""

    def log(self, event: RunEvent) -> None:
        """Append an event to the journal; `train.journal` has the kinds and the reader."""
        append_line(self.events, event_row(event), patient=True)

    @property
    def config(self) -> Path:
        """The resolved config, as YAML."""
        return self.root / "run.yaml"

    @property
    def plan(self) -> Path:
        """What was decided before the run was submitted."""
        return self.root / "plan.json"

    @property
    def deepspeed(self) -> Path:
        """The configuration that DeepSpeed receives."""
        return self.root / "deepspeed.json"

    @property
    def code(self) -> Path:
        """The frozen code that runs."""
        return self.root / "code"

    @property
    def stop_request(self) -> Path:
        """Lies here while the run is asked to save and stop: `shardline stop`, or a touch."""
        return self.root / "stop"

    @property
    def save_request(self) -> Path:
        """A touch of this file asks a running run to save now."""
        return self.root / "save"

    @property
    def pause(self) -> Path:
        """Holds the step at which the run is to save and stop, when a sweep compares it there."""
        return self.root / "pause"

    def ask_to_pause(self, step: int | None) -> None:
        """Stop the run at a step; None: let it go to its end."""
        if step is None:
            self.pause.unlink(missing_ok=True)
        else:
            write_atomic(self.pause, f"{step}\n")

    @property
    def metrics(self) -> Path:
        """One line per logged step: the truth of which W&B is a view."""
        return self.root / "metrics.jsonl"

    @property
    def trace(self) -> Path:
        """The sample ids of every global batch, when train.trace is on."""
        return self.root / "trace.jsonl"

    @property
    def profile(self) -> Path:
        """Traces of the steps that train.profile_steps names."""
        return self.root / "profile"

    @property
    def logs(self) -> Path:
        """attempt_K/rank_N.log, and what a rank that failed left there."""
        return self.root / "logs"

    @property
    def checkpoints(self) -> Path:
        """step_N directories and the pointers `latest` and `best`."""
        return self.root / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """base.json, tuned.json."""
        return self.root / "eval"

    @property
    def predictions(self) -> Path:
        """What the tuned model made of each row that a fold held out."""
        return self.evaluations / "predictions.jsonl"

    @property
    def export(self) -> Path:
        """The finished model, loadable by transformers."""
        return self.root / "export"

    @property
    def result(self) -> Path:
        """How the run ended, written once."""
        return self.root / "result.json"

    def attempt_logs(self, attempt: int) -> Path:
        """Logs of one attempt."""
        return self.logs / f"attempt_{attempt}"

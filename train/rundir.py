"""The run directory: the names of its files, and writing them. Torch-free.

Launcher and ranks communicate only through these files, which are text where possible and never incomplete.
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
"""Reasons in the journal of stops after which the run is not started again."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part, also after a crash."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass, pydantic model or plain value as JSON with `write_atomic`."""
    write_atomic(path, to_json(value, indent=2) + b"\n")


def sync_directory(path: Path) -> None:
    """Sync a directory, so that new and renamed files survive a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_DELAYED: dict[Path, list[bytes]] = {}
"""Lines that could not be written to a full disk yet."""


def append_line(path: Path, row: dict[str, Any], *, patient: bool = False) -> None:
    """Append one JSON line with a single write, so that lines of concurrent writers do not mix.

    If a full disk or a power cut truncated the last line, it is terminated first.

    Args:
        path: A .jsonl file.
        row: The content of the line.
        patient: Whether to keep the line in memory while the disk is full and write it with the next one.

    Raises:
        OSError: The line cannot be written. Not raised for a full disk if `patient`.
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
    """Read the rows of a .jsonl file; truncated lines are skipped."""
    for line in new_lines(path, 0)[0]:
        value = parse_line(line)
        if value is not None:
            yield value


def new_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """Read the complete lines of a growing file from a byte offset; also returns the offset after them."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        text, newline, _rest = file.read().rpartition(b"\n")
    return (text.split(b"\n"), offset + len(text) + 1) if newline else ([], offset)


@dataclass(frozen=True, slots=True)
class JournaledDir:
    """A directory with jobs, a journal and permissions."""

    root: Path

    @property
    def jobs(self) -> Path:
        """The list of jobs: one line before a job is submitted, and one with its id afterwards."""
        return self.root / "jobs.jsonl"

    @property
    def events(self) -> Path:
        """The journal."""
        return self.root / "events.jsonl"

    def adopt_umask(self) -> None:
        """Set the umask so that new files are as private as the directory."""
        shared = self.root.stat().st_mode & 0o020
        os.umask(0o007 if shared else 0o077)


@dataclass(frozen=True, slots=True)
class RunDir(JournaledDir):
    """The files of one run directory."""

    def log(self, event: RunEvent) -> None:
        """Append an event to the journal; `train.journal` has the kinds and the reader."""
        append_line(self.events, event_row(event), patient=True)

    @property
    def config(self) -> Path:
        """The resolved config, as YAML."""
        return self.root / "run.yaml"

    @property
    def plan(self) -> Path:
        """The decisions made before submission."""
        return self.root / "plan.json"

    @property
    def deepspeed(self) -> Path:
        """The configuration that DeepSpeed receives."""
        return self.root / "deepspeed.json"

    @property
    def code(self) -> Path:
        """The snapshot of the code that the run uses."""
        return self.root / "code"

    @property
    def stop_request(self) -> Path:
        """A file whose existence requests a save and stop: made by `shardline stop`, or by `touch`."""
        return self.root / "stop"

    @property
    def save_request(self) -> Path:
        """A file whose creation requests a save of a running run."""
        return self.root / "save"

    @property
    def pause(self) -> Path:
        """A file with the step at which the run saves and stops for a comparison in a sweep."""
        return self.root / "pause"

    def ask_to_pause(self, step: int | None) -> None:
        """Request a stop at a step; None cancels the request."""
        if step is None:
            self.pause.unlink(missing_ok=True)
        else:
            write_atomic(self.pause, f"{step}\n")

    @property
    def metrics(self) -> Path:
        """The metrics of each logged step; W&B has a copy."""
        return self.root / "metrics.jsonl"

    @property
    def trace(self) -> Path:
        """The sample ids of every global batch, with train.trace=true."""
        return self.root / "trace.jsonl"

    @property
    def profile(self) -> Path:
        """The traces of the steps in train.profile_steps."""
        return self.root / "profile"

    @property
    def logs(self) -> Path:
        """The logs attempt_K/rank_N.log, and the failures of ranks."""
        return self.root / "logs"

    @property
    def checkpoints(self) -> Path:
        """The step_N directories and the pointers `latest` and `best`."""
        return self.root / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """The assessments base.json and tuned.json."""
        return self.root / "eval"

    @property
    def predictions(self) -> Path:
        """The tuned model's predictions for the rows of the held-out fold."""
        return self.evaluations / "predictions.jsonl"

    @property
    def export(self) -> Path:
        """The finished model, which transformers can load."""
        return self.root / "export"

    @property
    def result(self) -> Path:
        """The result of the run, written once at its end."""
        return self.root / "result.json"

    def attempt_logs(self, attempt: int) -> Path:
        """Return the directory with the logs of one attempt."""
        return self.logs / f"attempt_{attempt}"

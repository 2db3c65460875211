"""One save in the background: every rank writes its files, rank 0 publishes them together.

Each rank writes a report into the staging directory once its files are on disk. The save runs no collective
operation, so training continues meanwhile.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import torch
from pydantic import BaseModel, ConfigDict

from train.checkpoint.manifest import FileRecord, record
from train.engine.host_copy import PendingFile, all_finite
from train.faults import Faults
from train.rundir import sync_directory, write_json

REPORTS = "reports"
_POLL_S = 0.02


class RankReport(BaseModel):
    """The report of one rank after writing its files."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, FileRecord]
    problem: str | None


@dataclass(frozen=True, slots=True)
class SaveOutcome:
    """The outcome of one save."""

    step: int
    problem: str | None
    """The reason why the save was not published; None if it was."""


class BackgroundSave(threading.Thread):
    """Writes this rank's files and its report; on rank 0 also publishes the checkpoint."""

    def __init__(
        self,
        staging: Path,
        step: int,
        files: Sequence[PendingFile],
        *,
        rank: int,
        world_size: int,
        faults: Faults,
        publish: Callable[[dict[str, FileRecord]], None],
        problem: str | None,
    ) -> None:
        """Prepare the save of copied states; call `start` to begin it.

        Args:
            staging: Directory into which all ranks write.
            step: The step that is saved.
            files: The copied files of this rank.
            rank: The rank of this process.
            world_size: Number of ranks, and so of reports.
            faults: Faults to inject.
            publish: Called on rank 0 with the records of all files; may raise OSError.
            problem: Reason not to publish this rank's files, if already known.
        """
        super().__init__(daemon=True, name=f"save-{step}")
        self.outcome: SaveOutcome | None = None
        self._staging = staging
        self._step = step
        self._files = files
        self._rank = rank
        self._world_size = world_size
        self._faults = faults
        self._publish = publish
        self._problem = problem
        self._abandoned = threading.Event()

    def run(self) -> None:
        """Write, report and publish; errors are stored in `outcome`, not raised."""
        problem = self._guarded(self._write_own)
        if problem is not None:
            self._make_room()
            self._guarded(lambda: self._report({}, problem))
        if self._rank == 0 and problem is None:
            problem = self._guarded(self._publish_all)
        self.outcome = SaveOutcome(self._step, problem)

    def abandon(self) -> None:
        """Stop waiting for reports, on rank 0: another rank failed to write its report."""
        self._abandoned.set()

    def _make_room(self) -> None:
        """Delete this rank's files, so that its report fits on a full disk."""
        for file in self._files:
            file.path.unlink(missing_ok=True)

    def _guarded(self, part: Callable[[], None]) -> str | None:
        """Run a part of the save; returns the problem, if any."""
        try:
            part()
        except OSError as error:
            return f"{error.strerror or error}"
        except UnusableStateError as error:
            return str(error)
        except Exception as error:
            # Without an outcome the other ranks would wait for this one until the watchdog ends them.
            logging.getLogger(__name__).exception("the save of step %d failed", self._step)
            return f"{type(error).__name__}: {error}"
        return None

    def _write_own(self) -> None:
        if self._problem:
            raise UnusableStateError(self._problem)
        for file in self._files:
            if not all_finite(file.state):
                raise UnusableStateError(f"{file.path.name} holds NaN or infinity")
        records = {str(file.path.relative_to(self._staging)): self._write(file) for file in self._files}
        self._report(records, None)

    def _write(self, file: PendingFile) -> FileRecord:
        self._faults.hit("save.shard", step=self._step)
        with file.path.open("wb") as raw:
            hashing = _HashingFile(raw)
            torch.save(file.state, cast("IO[bytes]", hashing))
            raw.flush()
            os.fsync(raw.fileno())
        self._faults.hit("save.written", step=self._step, path=file.path)
        return FileRecord(size=hashing.size, sha256=hashing.digest.hexdigest())

    def _report(self, records: dict[str, FileRecord], problem: str | None) -> None:
        self._faults.hit("save.report", step=self._step)
        report = RankReport(files=records, problem=problem)
        write_json(self._staging / REPORTS / f"rank_{self._rank}.json", report)

    def _publish_all(self) -> None:
        files: dict[str, FileRecord] = {}
        for report in self._await_reports():
            if report.problem:
                raise UnusableStateError(report.problem)
            files |= report.files
        for path in self._staging.iterdir():
            if path.is_file():
                files[path.name] = record(path)
        for path in {(self._staging / name).parent for name in files}:
            sync_directory(path)
        self._publish(files)

    def _await_reports(self) -> list[RankReport]:
        paths = [self._staging / REPORTS / f"rank_{rank}.json" for rank in range(self._world_size)]
        while not all(path.exists() for path in paths):
            if self._abandoned.wait(_POLL_S):
                raise UnusableStateError("another rank could not write its part")
        return [RankReport.model_validate_json(path.read_bytes()) for path in paths]


class UnusableStateError(Exception):
    """The states of this save must not be published."""


class _HashingFile:
    """A file that hashes the data on its way to disk."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write `data` and add it to the hash."""
        self.digest.update(data)
        self.size += len(memoryview(data).cast("B"))
        return self._raw.write(data)

    def flush(self) -> None:
        """Flush to the operating system."""
        self._raw.flush()

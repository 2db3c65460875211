"""The logs of a run: which files there are, their lines in the order of time, and the first error."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from launcher.errors import refuse
from train.failures import first_cause, read_failures
from train.rundir import RunDir, new_lines

_POLL_S = 0.3
_STAMP = re.compile(rb"\[?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)[.,](\d{3})")


@dataclass(frozen=True, slots=True)
class LogFile:
    """One source of lines in one attempt: a rank, a node's agent, or the batch script."""

    path: Path
    label: str


def attempts_with_logs(run: RunDir) -> list[int]:
    """Their numbers, oldest first."""
    return sorted(int(path.name.removeprefix("attempt_")) for path in run.logs.glob("attempt_*"))


def log_files(run: RunDir, attempt: int | None, rank: int | None) -> list[LogFile]:
    """Logs of an attempt (default: the last) and of one rank or all.

    Raises:
        Refused: there is no such attempt or rank.
    """
    attempts = attempts_with_logs(run)
    if not attempts:
        raise refuse("logs.none", "RUN", f"{run.root.name} has not started yet", "add -f to wait for it")
    chosen = attempt if attempt is not None else attempts[-1]
    if chosen not in attempts:
        listed = ", ".join(map(str, attempts))
        raise refuse("logs.attempt", "--attempt", f"there is no attempt {chosen}", f"attempts: {listed}")
    found = sorted(run.attempt_logs(chosen).glob("rank_*.log"), key=lambda path: _number(path.name))
    files = [LogFile(path, path.stem.replace("_", " ")) for path in found]
    if rank is not None:
        files = [file for file in files if _number(file.path.name) == rank]
        if not files:
            listed = ", ".join(str(_number(path.name)) for path in found) or "none yet"
            raise refuse("logs.rank", "--rank", f"there is no rank {rank}", f"ranks: {listed}")
    return [*files, *_task_logs(run, chosen, rank)]


def first_error(run: RunDir, attempt: int) -> str | None:
    """What went wrong first in an attempt, as the rank that it happened on wrote it down."""
    cause = first_cause(read_failures(run.attempt_logs(attempt)))
    if cause is None:
        return None
    when = datetime.fromtimestamp(cause.time).strftime("%H:%M:%S")
    return f"first error: rank {cause.rank} on {cause.host} at {when}: {cause.message}"


def follow(files: Callable[[], Sequence[LogFile]], alive: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """(label, line) as lines are written, until the run ends; what is there already is merged by time."""
    offsets: dict[Path, int] = {}
    while True:
        last_round = not alive()
        batch: list[tuple[bytes, str, str]] = []
        for file in files():
            lines, offsets[file.path] = new_lines(file.path, offsets.get(file.path, 0))
            batch += _stamped(file.label, lines)
        # Stable: lines without a time of their own stay behind the one that they belong to.
        for _, label, line in sorted(batch, key=lambda entry: entry[0]):
            yield label, line
        if last_round:
            return
        time.sleep(_POLL_S)


def _stamped(label: str, lines: Sequence[bytes]) -> Iterator[tuple[bytes, str, str]]:
    stamp = b""
    for line in lines:
        if found := _STAMP.match(line):
            stamp = b" ".join(found.groups())
        yield stamp, label, line.decode(errors="replace")


def _task_logs(run: RunDir, attempt: int, rank: int | None) -> list[LogFile]:
    """The node agents' own output and the batch script's, of the attempt's job."""
    token = run.attempt_logs(attempt) / "start"
    if rank is not None or not token.is_file():
        return []
    job_id = re.match(r"\d*", token.read_text())
    assert job_id is not None
    folder = run.root / "submitit"
    nodes = sorted(folder.glob(f"{job_id[0]}_[0-9]*.out"))
    found = [LogFile(path, f"node {_number(path.name.removeprefix(f'{job_id[0]}_'))}") for path in nodes]
    return [*found, *(LogFile(path, "batch") for path in folder.glob(f"{job_id[0]}_batch.out"))]


def as_json(label: str, line: str) -> str:
    """A line for programs."""
    return json.dumps({"source": label, "line": line})


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))

"""The logs of a run: its files, their lines sorted by time, and the first error."""

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
    """Numbers of the attempts that have logs, oldest first."""
    return sorted(int(path.name.removeprefix("attempt_")) for path in run.logs.glob("attempt_*"))


def log_files(run: RunDir, attempt: int | None, rank: int | None) -> list[LogFile]:
    """Log files of an attempt (default: the last), of one rank or of all.

    Raises:
        Refused: the run has no such attempt or rank.
    """
    attempts = attempts_with_logs(run)
    if not attempts:
        raise refuse(
            "logs.none",
            "RUN",
            f"{run.root.name} has no logs yet: it has not started",
            "add -f to wait for them",
        )
    chosen = attempt if attempt is not None else attempts[-1]
    if chosen not in attempts:
        listed = ", ".join(map(str, attempts))
        raise refuse(
            "logs.attempt", "--attempt", f"unknown attempt {chosen}", f"attempts with logs: {listed}"
        )
    found = sorted(run.attempt_logs(chosen).glob("rank_*.log"), key=lambda path: _number(path.name))
    files = [LogFile(path, path.stem.replace("_", " ")) for path in found]
    if rank is not None:
        files = [file for file in files if _number(file.path.name) == rank]
        if not files:
            listed = ", ".join(str(_number(path.name)) for path in found) or "none yet"
            raise refuse("logs.rank", "--rank", f"unknown rank {rank}", f"ranks with logs: {listed}")
    return [*files, *_task_logs(run, chosen, rank)]


def line_filter(pattern: str | None) -> re.Pattern[str]:
    """Compile the pattern of --grep; without one, every line matches.

    Raises:
        Refused: it is not a valid regular expression.
    """
    try:
        return re.compile(pattern or "")
    except re.error as error:
        message = f"invalid regular expression {pattern!r}: {error}"
        raise refuse("logs.grep", "--grep", message, "fix the pattern") from error


def first_error(run: RunDir, attempt: int) -> str | None:
    """The first error of an attempt, as the rank where it happened recorded it; None without one."""
    cause = first_cause(read_failures(run.attempt_logs(attempt)))
    if cause is None:
        return None
    when = datetime.fromtimestamp(cause.time).strftime("%H:%M:%S")
    return f"first error: rank {cause.rank} on {cause.host} at {when}: {cause.message}"


def follow(files: Callable[[], Sequence[LogFile]], alive: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """Yield (label, line) as lines are written, until the run ends; existing lines are merged by time."""
    offsets: dict[Path, int] = {}
    while True:
        last_round = not alive()
        batch: list[tuple[bytes, str, str]] = []
        for file in files():
            lines, offsets[file.path] = new_lines(file.path, offsets.get(file.path, 0))
            batch += _stamped(file.label, lines)
        # The sort is stable: lines without a timestamp stay behind the line that they belong to.
        for _, label, line in sorted(batch, key=lambda entry: entry[0]):
            yield label, line
        if last_round:
            return
        time.sleep(_POLL_S)


def _stamped(label: str, lines: Sequence[bytes]) -> Iterator[tuple[bytes, str, str]]:
    """Yield (timestamp, label, line); a line without a timestamp gets that of the line before."""
    stamp = b""
    for line in lines:
        if found := _STAMP.match(line):
            stamp = b" ".join(found.groups())
        yield stamp, label, line.decode(errors="replace")


def _task_logs(run: RunDir, attempt: int, rank: int | None) -> list[LogFile]:
    """Output of the node agents and of the batch script, in the attempt's job."""
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
    """A log line as JSON."""
    return json.dumps({"source": label, "line": line})


def _number(name: str) -> int:
    """The digits in a file name, as a number."""
    return int(re.sub(r"\D", "", name))

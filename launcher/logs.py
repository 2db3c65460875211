"""The logs of a run: which files there are, and their lines as they come."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import refuse
from train.rundir import RunDir, new_lines

_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class LogFile:
    """One rank's log of one attempt."""

    path: Path
    label: str


def log_files(run: RunDir, attempt: int | None, rank: int | None) -> list[LogFile]:
    """Logs of an attempt (default: the last) and of one rank or all.

    Raises:
        Refused: there is no such attempt or rank.
    """
    attempts = sorted(
        int(path.name.removeprefix("attempt_")) for path in run.logs.glob("attempt_*") if path.is_dir()
    )
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


def follow(files: Callable[[], list[LogFile]], alive: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """(label, line) as lines are written, until the run ends."""
    offsets: dict[Path, int] = {}
    while True:
        last_round = not alive()
        for file in files():
            lines, offsets[file.path] = new_lines(file.path, offsets.get(file.path, 0))
            yield from ((file.label, line.decode(errors="replace")) for line in lines)
        if last_round:
            return
        time.sleep(_POLL_S)


def _task_logs(run: RunDir, attempt: int, rank: int | None) -> list[LogFile]:
    """The node agent's own output, as the executor keeps it, for the attempt that a job made."""
    token = run.attempt_logs(attempt) / "start"
    if rank is not None or not token.is_file():
        return []
    job_id = re.sub(r"[^0-9].*", "", token.read_text())
    return [LogFile(path, "node 0") for path in (run.root / "submitit").glob(f"{job_id}_*_log.out")]


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))

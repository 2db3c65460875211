"""Measure the start of ranks: forked from one process that has done the imports, and as new interpreters.

    python -m benchmarks.start [--ranks 2 8] [--repeats 3]

The node agent runs as in a job, alternating between `train.start_method=fork` and `spawn`, on the tiny model
of `experiment=smoke`. strace (`apt-get install strace`) counts opened files: successful calls of open, openat
and openat2 by the agent and all its child processes.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread
from benchmarks.runs import freeze_run
from train.rundir import RunDir, read_lines

TITLE = "Starting ranks"
NOTES = (
    "Each start is a whole job of one step with a checkpoint: the node agent, the process that starts the"
    " ranks, and the ranks. Seconds are from the agent's exec to the first step; CPU seconds and files are"
    " those of the whole job. With fewer cores than ranks, interpreters compete for cores during the imports;"
    " with one core per rank the difference in seconds is smaller, but not in CPU seconds and files. The"
    " seconds after a killed rank are from `kill -9` of rank 1 of 2 to the next step, without the time for"
    " reading the checkpoint."
)
METHODS = ("fork", "spawn")
KILLED_RANKS = 2
_AGENT = "import sys; from launcher.node.entry import run_node; run_node(sys.argv[1])"
_OPENED = re.compile(rb"(open|openat|openat2)\(.*= \d+|<\.\.\. (open|openat|openat2) resumed>.*= \d+")
_KILL_AFTER_STEP = 4
_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Measurements of one job with one step."""

    seconds: float
    """Seconds from the agent's exec to the first step."""
    cpu_s: float
    """CPU seconds of all processes until the end of the job."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--ranks", type=at_least(2), nargs="+", default=[2, 8])
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure starts by number of ranks, then killed ranks, alternating between the two methods."""
    if shutil.which("strace") is None:
        sys.exit("command not found: strace, which benchmarks.start needs: apt-get install strace")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [_measure_starts(folder, ranks, options.repeats) for ranks in options.ranks]
        killed: dict[str, list[float]] = {method: [] for method in METHODS}
        for repeat in range(options.repeats):
            for method in METHODS:
                killed[method].append(_seconds_after_kill(folder / f"killed-{repeat}", method))
    return {"rows": rows, "killed": killed, "ratios": as_json(_ratios(rows, killed))}


def _measure_starts(folder: Path, ranks: int, repeats: int) -> dict[str, Any]:
    starts: dict[str, list[Start]] = {method: [] for method in METHODS}
    files = {}
    for repeat in range(repeats):
        for method in METHODS:
            run = plan_run(folder / f"{ranks}-{repeat}", ranks, method)
            run.ask_to_pause(1)
            starts[method].append(one_start(run))
    for method in METHODS:
        run = plan_run(folder / f"{ranks}-files", ranks, method)
        run.ask_to_pause(1)
        files[method] = opened_files(run, folder / "strace.log")
    return {
        "ranks": ranks,
        **{
            method: {
                "seconds": [start.seconds for start in starts[method]],
                "cpu_s": [start.cpu_s for start in starts[method]],
                "files": files[method],
            }
            for method in METHODS
        },
    }


def _ratios(rows: list[dict[str, Any]], killed: dict[str, list[float]]) -> list[Ratio]:
    largest = max(rows, key=lambda row: int(row["ranks"]))
    fork, spawn = (largest[method] for method in METHODS)
    what = f"start of {largest['ranks']} ranks vs. new interpreters"
    return [
        Ratio(
            what=f"CPU seconds of a {what}",
            value=statistics.median(fork["cpu_s"]) / statistics.median(spawn["cpu_s"]),
            sense="at most",
            target=0.35,
        ),
        Ratio(
            what=f"files opened by a {what}",
            value=fork["files"] / spawn["files"],
            sense="at most",
            target=0.25,
        ),
        Ratio(
            what="seconds from a killed rank to the next step vs. new interpreters",
            value=statistics.median(killed["fork"]) / statistics.median(killed["spawn"]),
            sense="at most",
            target=0.5,
        ),
    ]


def plan_run(runs: Path, ranks: int, method: str) -> RunDir:
    """Create a run directory as `submit` does.

    Args:
        runs: Folder of the runs.
        ranks: Number of CPU ranks.
        method: Value of `train.start_method`.

    Raises:
        Refused: The plan has problems.
    """
    return freeze_run(
        [
            "experiment=smoke",
            f"name={method}",
            f"runs_dir={runs}",
            "hardware.device=cpu",
            f"hardware.gpus_per_node={ranks}",
            f"train.start_method={method}",
            "train.micro_batch_size=1",
            f"train.global_batch_size={ranks}",
            "train.max_steps=100000",
            "data.validation=null",
            "data.test=null",
            "eval.base=false",
            "checkpoint.every_steps=2",
            "tracking.wandb=disabled",
        ]
    )


def start_agent(run: RunDir, *before: str) -> subprocess.Popen[bytes]:
    """Start the node agent of a run as Submitit does; its output goes to agent.log in the run directory."""
    environ = {
        **os.environ,
        "SUBMITIT_EXECUTOR": "local",
        # Under the local executor, a process of this machine.
        "SUBMITIT_LOCAL_JOB_ID": str(os.getpid()),
        "PYTHONPATH": str(run.code),
        "PYTHONSAFEPATH": "1",
    }
    with (run.root / "agent.log").open("wb") as log:
        return subprocess.Popen(
            [*before, sys.executable, "-c", _AGENT, str(run.root)], env=environ, stdout=log, stderr=log
        )


def one_start(run: RunDir) -> Start:
    """Run and measure the job of a run that pauses after its first step."""
    began_s = time.time()
    agent = start_agent(run)
    _, status, usage = os.wait4(agent.pid, 0)
    agent.returncode = os.waitstatus_to_exitcode(status)
    return Start(seconds=_first_step(run)["time"] - began_s, cpu_s=usage.ru_utime + usage.ru_stime)


def opened_files(run: RunDir, log: Path) -> int:
    """Return the number of files that the job of such a run opens."""
    words = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=open,openat,openat2", "-o", str(log)]
    start_agent(run, *words).wait()
    _first_step(run)
    with log.open("rb") as lines:
        return sum(bool(_OPENED.search(line)) for line in lines)


def _seconds_after_kill(runs: Path, method: str) -> float:
    """Kill a rank during training and return the seconds to the next step, without those of restoring."""
    run = plan_run(runs, KILLED_RANKS, method)
    agent = start_agent(run)
    try:
        _wait_for(
            lambda: max((row["step"] for row in read_lines(run.metrics)), default=0) >= _KILL_AFTER_STEP
        )
        killed_s = time.time()
        _rank(agent.pid, 1).kill()
        _wait_for(lambda: len(_starts(run)) > 1)
    finally:
        run.stop_request.touch()
        agent.wait()
    start = _starts(run)[1]
    return float(start["time"] - killed_s - start["seconds"]["restore"])


def _rank(agent: int, rank: int) -> psutil.Process:
    """Find a rank among an agent's descendants by its command line."""
    for process in psutil.Process(agent).children(recursive=True):
        words: Sequence[str] = [word for word in process.cmdline() if word]
        if words[-3:-2] == ["train.worker"] and words[-1] == str(rank):
            return process
    raise LookupError(f"rank {rank} is not running")


def _starts(run: RunDir) -> list[dict[str, Any]]:
    return [row for row in read_lines(run.events) if row["event"] == "start"]


def _first_step(run: RunDir) -> dict[str, Any]:
    starts = _starts(run)
    if not starts:
        sys.exit(f"the job made no step:\n{(run.root / 'agent.log').read_text()[-3000:]}")
    return starts[0]


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out after {_WITHIN_S:.0f} s")
        time.sleep(0.02)


def table(result: dict[str, Any]) -> str:
    """Return the table of seconds, CPU seconds and files by ranks and method."""
    lines = [
        "| ranks | `train.start_method` | seconds to the first step, median (range)"
        " | CPU seconds | files opened |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for method in METHODS:
            found = row[method]
            lines.append(
                f"| {row['ranks']} | {method} | {spread(found['seconds'])} | {spread(found['cpu_s'])} |"
                f" {found['files']:,} |"
            )
    lines += ["", "| killed rank | seconds to the next step, median (range) |", "|---|---|"]
    lines += [f"| {method} | {spread(result['killed'][method])} |" for method in METHODS]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

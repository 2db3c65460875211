"""What starting ranks costs: forked from one process that has imported for them, beside new interpreters.

    python -m benchmarks.start [--ranks 2 8] [--repeats 3]

The node agent runs as in a job, once with `train.start_method=fork` and once with `spawn`, in turns, on the
tiny model of `experiment=smoke`. Files are counted by strace (`apt-get install strace`): successful calls of
open, openat and openat2, of the agent and all that it starts.
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
from launcher.compose.run import compose_run
from launcher.errors import Refused
from launcher.lifecycle.submit import create_run
from launcher.planning.preflight import examine
from train.rundir import RunDir, read_lines

TITLE = "Starting ranks"
NOTES = (
    "Each start is a whole job of one step, with its checkpoint: the node agent, the process that starts the"
    " ranks, and the ranks. Seconds are from the agent's exec to the first step; CPU seconds and files are of"
    " the whole job. With fewer cores than ranks, interpreters wait for each other as they import; with a"
    " core for each the seconds are closer, the CPU seconds and files are not. A killed rank's seconds are"
    " from `kill -9` of rank 1 of 2 to the next step, without those in which the checkpoint was read."
)
METHODS = ("fork", "spawn")
KILLED_RANKS = 2
_AGENT = "import sys; from launcher.node.entry import run_node; run_node(sys.argv[1])"
_OPENED = re.compile(rb"(open|openat|openat2)\(.*= \d+|<\.\.\. (open|openat|openat2) resumed>.*= \d+")
_KILL_AFTER_STEP = 4
_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One job of one step."""

    seconds: float
    """From the agent's exec to the first step."""
    cpu_s: float
    """Of all processes, to the end of the job."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--ranks", type=at_least(2), nargs="+", default=[2, 8])
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Starts by number of ranks, then killed ranks; the two methods in turns."""
    if shutil.which("strace") is None:
        sys.exit(
            "benchmarks.start counts opened files with strace, which is not here: apt-get install strace"
        )
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
    what = f"start of {largest['ranks']} ranks, beside new interpreters"
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
            what="seconds from a killed rank to the next step, beside new interpreters",
            value=statistics.median(killed["fork"]) / statistics.median(killed["spawn"]),
            sense="at most",
            target=0.5,
        ),
    ]


def plan_run(runs: Path, ranks: int, method: str) -> RunDir:
    """A run directory as `submit` leaves it for the job."""
    composed = compose_run(
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
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems)
    run = RunDir(runs / plan.run)
    create_run(run, composed, plan)
    return run


def start_agent(run: RunDir, *before: str) -> subprocess.Popen[bytes]:
    """The node agent of a run, as Submitit starts it; its output is kept beside the run's logs."""
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
    """Run the job of a run that is asked to pause after its first step."""
    began_s = time.time()
    agent = start_agent(run)
    _, status, usage = os.wait4(agent.pid, 0)
    agent.returncode = os.waitstatus_to_exitcode(status)
    return Start(seconds=_first_step(run)["time"] - began_s, cpu_s=usage.ru_utime + usage.ru_stime)


def opened_files(run: RunDir, log: Path) -> int:
    """How many files the job of such a run opens."""
    words = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=open,openat,openat2", "-o", str(log)]
    start_agent(run, *words).wait()
    _first_step(run)
    with log.open("rb") as lines:
        return sum(bool(_OPENED.search(line)) for line in lines)


def _seconds_after_kill(runs: Path, method: str) -> float:
    """Kill a rank in the middle of its training; seconds to the next step, those of restoring left out."""
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
    """A rank among an agent's descendants, by its command."""
    for process in psutil.Process(agent).children(recursive=True):
        words: Sequence[str] = [word for word in process.cmdline() if word]
        if words[-3:-2] == ["train.worker"] and words[-1] == str(rank):
            return process
    raise LookupError(f"rank {rank} does not run")


def _starts(run: RunDir) -> list[dict[str, Any]]:
    return [row for row in read_lines(run.events) if row["event"] == "start"]


def _first_step(run: RunDir) -> dict[str, Any]:
    starts = _starts(run)
    if not starts:
        sys.exit(f"no step was made:\n{(run.root / 'agent.log').read_text()[-3000:]}")
    return starts[0]


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened within {_WITHIN_S:.0f} s")
        time.sleep(0.02)


def table(result: dict[str, Any]) -> str:
    """Seconds, CPU seconds and files by ranks and method."""
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

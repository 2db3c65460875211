"""Measure the cost of a command on a login node: start time and file system calls.

    python -m benchmarks.command [--repeats 7]

`shardline --help`, `status` (one finished run) and `plan` alternate with the `--help` of a plain Hydra app on
the same configs and with `deepspeed --help`. strace (`apt-get install strace`) counts the calls that open,
list or stat files; on a shared file system each of them can cause network traffic.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread
from benchmarks.hydra_app import APP
from launcher.compose.roots import packaged

TITLE = "Cost of a command"
NOTES = ""
_CALLS = "trace=%file,getdents64"
_TARGETS = {"shardline --help": 0.5, "shardline status": 0.7, "shardline plan": 1.2}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--repeats", type=at_least(1), default=7)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all commands, alternating."""
    if shutil.which("strace") is None:
        sys.exit("command not found: strace, which benchmarks.command needs: apt-get install strace")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {**os.environ, "SHARDLINE_RUNS": str(folder / "runs"), "DS_ACCELERATOR": "cpu"}
        _ended_run(folder / "runs")
        commands = _commands(folder)
        seconds: dict[str, list[float]] = {command: [] for command in commands}
        for _ in range(options.repeats):
            for command, words in commands.items():
                began = time.perf_counter()
                _run(words, environ, folder)
                seconds[command].append(time.perf_counter() - began)
        calls = {command: _calls(words, environ, folder) for command, words in commands.items()}
    hydra = statistics.median(seconds["a Hydra app, --help"])
    ratios = [
        Ratio(
            what=f"start of {command} vs. a Hydra app's --help",
            value=statistics.median(seconds[command]) / hydra,
            sense="at most",
            target=target,
        )
        for command, target in _TARGETS.items()
    ]
    ratios.append(
        Ratio(
            what="file calls of shardline status vs. deepspeed --help",
            value=calls["shardline status"] / calls["deepspeed --help"],
            sense="at most",
            target=0.1,
        )
    )
    rows = [
        {"command": command, "seconds": seconds[command], "calls": calls[command]} for command in commands
    ]
    return {"rows": rows, "ratios": as_json(ratios)}


def _commands(folder: Path) -> dict[str, list[str]]:
    bin_dir = Path(sys.executable).parent
    app = folder / "app.py"
    app.write_text(APP.format(conf=packaged("conf"), examples=packaged("examples")))
    shardline = str(bin_dir / "shardline")
    return {
        "shardline --help": [shardline, "--help"],
        "shardline status": [shardline, "status"],
        "shardline plan": [shardline, "plan", "experiment=smoke"],
        "a Hydra app, --help": [sys.executable, str(app), "--help"],
        "deepspeed --help": [str(bin_dir / "deepspeed"), "--help"],
    }


def _ended_run(runs: Path) -> None:
    """Create the files of a run that has ended, which `status` reads."""
    from benchmarks.runs import freeze_run
    from train.result import Failed, write_result

    os.environ["SHARDLINE_RUNS"] = str(runs)
    write_result(freeze_run(["experiment=smoke"]), Failed(reason="made by a benchmark", attempts=1))


def _run(words: list[str], environ: dict[str, str], folder: Path) -> None:
    subprocess.run(
        words, env=environ, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _calls(words: list[str], environ: dict[str, str], folder: Path) -> int:
    log = folder / "strace.log"
    _run(["strace", "-f", "-qq", "-e", _CALLS, "-o", str(log), *words], environ, folder)
    lines = log.read_text(errors="replace").splitlines()
    return sum("(" in line and "resumed>" not in line for line in lines)


def table(result: dict[str, Any]) -> str:
    """Return the table of seconds and calls by command."""
    lines = [
        "| command | seconds, median (range) | file system calls |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{row['command']}` | {spread(row['seconds'])} | {row['calls']:,} |" for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

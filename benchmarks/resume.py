"""How long a resume takes, and whether that grows with the steps that were made before.

    python -m benchmarks.resume [--steps 10 1000 100000] [--repeats 3]

Real resumes of real runs by the command, the tiny model on two CPU ranks. Each run trains a little and is
stopped; then its checkpoint, its metrics and its journal are given the length of a run of so many steps. The
step numbers are interleaved. Prints a table or, with --json, the numbers.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.status import read_status
from train.checkpoint.manifest import MANIFEST, record
from train.checkpoint.progress import PROGRESS, read_progress
from train.checkpoint.store import CheckpointStore
from train.rundir import RunDir, read_lines, write_json

GLOBAL_BATCH = 8
STEPS_PER_CHECKPOINT = 100
"""In the journal of a long run."""
PATIENCE_S = 300


def main() -> None:
    """Prepare one run per step number, resume each again and again, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 1000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SHARDLINE_RUNS": folder, "CUDA_VISIBLE_DEVICES": ""}
        runs = {step: _run_at(step) for step in options.steps}
        times: dict[int, list[dict[str, float]]] = {step: [] for step in options.steps}
        for _ in range(options.repeats):
            for step, run in runs.items():
                times[step].append(_resume(run, step))
    result = {
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "deepspeed")},
        "resumes": [{"step": step, "repeats": repeats} for step, repeats in times.items()],
    }
    print(json.dumps(result, indent=2) if options.json else _table(result))


def _run_at(step: int) -> RunDir:
    """A stopped run whose files are those of a run that has made so many steps."""
    done = _shardline(
        "submit",
        "experiment=smoke",
        f"name=at-{step}",
        f"train.max_steps={10 * step + 1000}",
        f"train.global_batch_size={GLOBAL_BATCH}",
        "eval.base=false",
        "checkpoint.every_steps=null",
        "--json",
    )
    run = RunDir(Path(json.loads(done)["dir"]))
    _wait(run, lambda: run.metrics.exists() and any(read_lines(run.metrics)))
    _shardline("stop", str(run.root))
    _wait(run, lambda: read_status(run).state == "PREEMPTED")
    _move_checkpoint(run, step)
    row = next(read_lines(run.metrics))
    _rewrite(run.metrics, ({**row, "step": made} for made in range(1, step + 1)))
    events = list(read_lines(run.events))
    saved = next(entry for entry in events if entry["event"] == "checkpoint")
    earlier = ({**saved, "step": made} for made in range(STEPS_PER_CHECKPOINT, step, STEPS_PER_CHECKPOINT))
    _rewrite(run.events, [*events[:-1], *earlier, {**saved, "step": step}, events[-1]])
    return run


def _move_checkpoint(run: RunDir, step: int) -> None:
    """Commit the states of the newest checkpoint again as those of another step."""
    store = CheckpointStore(run.checkpoints)
    verdict = store.verdicts()[0]
    assert verdict.manifest
    samples = step * GLOBAL_BATCH
    staging = store.stage(step)
    shutil.copytree(verdict.path, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    write_json(staging / PROGRESS, replace(read_progress(verdict.path), step=step, samples=samples))
    files = {**verdict.manifest.files, PROGRESS: record(staging / PROGRESS)}
    if verdict.manifest.step != step:
        shutil.rmtree(verdict.path)
    update = {"step": step, "samples": samples, "files": files}
    store.commit(staging, verdict.manifest.model_copy(update=update))


def _rewrite(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _resume(run: RunDir, step: int) -> dict[str, float]:
    """Resume, wait for the first step, end the run without another save; seconds."""
    began = time.time()
    _shardline("resume", str(run.root))

    def first_step() -> dict[str, Any] | None:
        rows = (row for row in read_lines(run.metrics) if row["step"] == step + 1)
        return next((row for row in rows if row["time"] > began), None)

    _wait(run, lambda: first_step() is not None)
    made = first_step()
    assert made
    started = [row["time"] for row in read_lines(run.events) if row["event"] == "started"]
    resumed = [row for row in read_lines(run.events) if row["event"] == "resumed"]
    assert resumed[-1]["step"] == step
    _shardline("cancel", str(run.root))
    return {"total_s": made["time"] - began, "restoring_s": made["time"] - started[-1]}


def _wait(run: RunDir, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline or read_status(run).state == "FAILED":
            raise RuntimeError(f"the run did not get on: {read_status(run)}")
        time.sleep(0.1)


def _shardline(*arguments: str) -> str:
    words = [sys.executable, "-P", "-m", "launcher.cli", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _table(result: dict[str, Any]) -> str:
    def cells(repeats: list[dict[str, float]], key: str) -> str:
        values = [entry[key] for entry in repeats]
        return f"{statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f}"

    return "\n".join(
        [
            f"Tiny model, 2 ranks on {result['cores']} cores, torch {result['versions']['torch']},"
            f" deepspeed {result['versions']['deepspeed']}",
            "",
            "| steps before | command to first step, s | range | ranks ready to first step, s | range |",
            "|---|---|---|---|---|",
            *(
                f"| {entry['step']:,} | {cells(entry['repeats'], 'total_s')}"
                f" | {cells(entry['repeats'], 'restoring_s')} |"
                for entry in result["resumes"]
            ),
        ]
    )


if __name__ == "__main__":
    main()

"""Measure the cost of a step's metrics.

    python -m benchmarks.metering [--steps 2000] [--accumulation 4] [--ranks 2]

Ranks with gloo run empty steps without a model. The benchmark times the calls inside a step (the clock of its
parts), the report of a logged step (a small collective, memory, a line of metrics.jsonl), and such a
collective alone, which the loss needs anyway.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.harness import at_least, run_as_command
from benchmarks.ranks import run_ranks
from train.checkpoint.progress import Progress
from train.dist import DistEnv, Group
from train.flops import ModelWork, SpeedPlan
from train.observer import StepDone, StepSize
from train.rank.meter import Meter
from train.records.base import to_row
from train.rundir import append_line

TITLE = "Cost of the metrics"
NOTES = "Most of a report is waiting for the other rank. W&B is not included."
STEP_S = 0.1
"""Duration of a short step, of which the metrics may take one percent."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--steps", type=at_least(1), default=2000)
    parser.add_argument("--accumulation", type=at_least(1), default=4)
    parser.add_argument("--ranks", type=at_least(1), default=2)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start the ranks and return the measurements of rank 0."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "result.json"
        run_ranks(
            _rank, options.ranks, options.steps, options.accumulation, str(out), log=Path(name) / "ranks.log"
        )
        result: dict[str, Any] = json.loads(out.read_text())
        return result


def _rank(steps: int, accumulation: int, out: str) -> None:
    group = Group(DistEnv.from_environ("cpu"))
    meter = _meter(group, Path(out).with_name("metrics.jsonl"))
    loss, size = torch.tensor(3.0), StepSize(tokens=1000, trained=600, pairs=10**6)
    inside, reports, collectives = [], [], []
    for step in range(1, steps + 1):
        group.barrier()
        started = time.perf_counter()
        meter.before(step)
        for _ in range(accumulation):
            meter.enter("data")
            meter.enter("forward")
            meter.enter("backward")
            meter.add(loss)
        meter.enter("step")
        meter.after(StepDone(step=step, sample_ids=[], size=size, applied=True))
        inside.append(time.perf_counter() - started)
        group.barrier()
        started = time.perf_counter()
        meter.report(Progress(step=step, samples=step, tokens=step))
        reports.append(time.perf_counter() - started)
        group.barrier()
        started = time.perf_counter()
        group.sum([0.0])
        collectives.append(time.perf_counter() - started)
    if group.env.is_main:
        kinds = {"inside": inside, "report": reports, "collective": collectives}
        result = {
            "ranks": group.env.world_size,
            "accumulation": accumulation,
            "steps": steps,
            "seconds": {name: _quantiles(values) for name, values in kinds.items()},
        }
        Path(out).write_text(json.dumps(result))
    group.close()


def _meter(group: Group, metrics: Path) -> Meter:
    """A meter whose tracker only writes lines, without W&B."""
    work = ModelWork(multiplied_parameters=10**8, layers=12, hidden=768, causal=True)
    tracker: Any = SimpleNamespace(log_step=lambda row: append_line(metrics, to_row(row)))
    engine: Any = SimpleNamespace(current_lr=lambda: 1e-3, gradient_norm=lambda: 1.0)
    speed = SpeedPlan(peak_tflops=1.0, work=work)
    return Meter(engine, group, tracker if group.env.is_main else None, attempt=1, speed=speed)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "p10": ordered[len(ordered) // 10], "max": ordered[-1]}


def table(result: dict[str, Any]) -> str:
    """Return the table of microseconds."""
    names = {
        "inside": f"inside a step of {result['accumulation']} micro-batches",
        "report": "a report",
        "collective": "an all-reduce of one number, as part of a report",
    }
    seconds = result["seconds"]
    share = (seconds["inside"]["median"] + seconds["report"]["median"]) / STEP_S
    return "\n".join(
        [
            f"{result['ranks']} ranks with gloo, {result['steps']:,} steps",
            "",
            "| microseconds | median | 10th percentile |",
            "|---|---|---|",
            *(
                f"| {name} | {1e6 * seconds[key]['median']:.0f} | {1e6 * seconds[key]['p10']:.0f} |"
                for key, name in names.items()
            ),
            "",
            f"- share of a step of {1000 * STEP_S:.0f} ms if every step is logged: {share:.2%}",
        ]
    )


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

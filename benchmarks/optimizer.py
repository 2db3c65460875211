"""Measure an optimizer step: Shardline's AdamW and the fused CPU kernels of torch and DeepSpeed.

    python -m benchmarks.optimizer [--parameters-m 32 128] [--steps 3] [--repeats 30]

The parameters are one flat fp32 tensor, like a rank's partition under ZeRO. The arms alternate in one
process, each with its own states; after the first turn its parameters are compared with those of torch's
plain loop, which takes five times as long and is not timed. Ratios are medians over turns. DeepSpeed's AdamW
is built before the measurement, which needs a compiler and takes half a minute.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.arms.task import cached_in
from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread

TITLE = "Optimizer step"
NOTES = (
    "On CPUs `kernels=auto` uses torch's fused AdamW, which needs no compiler. DeepSpeed's is compiled for"
    " the processor: it took 9 % less time on an Intel Xeon, and as long or longer on an AMD EPYC. To use it,"
    " set `kernels.optimizer=cpu_adam` with `zero.offload_optimizer=true`. DeepSpeed's FusedAdam is omitted,"
    " because on CPUs it is the same code. Each kernel occurs twice in the table; the difference between the"
    " two is noise."
)
_AUTO, _BY_NAME = "Shardline, kernels=auto", "Shardline, cpu_adam"
_TORCH, _DEEPSPEED = "torch, fused", "DeepSpeed CPUAdam"
_SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
_AGREE_WITHIN = 1e-5

_Build = Callable[[torch.nn.Module], torch.optim.Optimizer]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--parameters-m", type=at_least(1), nargs="+", default=[32, 128])
    parser.add_argument("--steps", type=at_least(1), default=3)
    parser.add_argument("--repeats", type=at_least(1), default=30)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms at all sizes, alternating."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        arms = _arms()
        rows = [row for millions in options.parameters_m for row in _race(arms, millions, options)]
    ratios = [ratio for millions in options.parameters_m for ratio in _ratios(rows, millions)]
    return {"threads": torch.get_num_threads(), "rows": rows, "ratios": as_json(ratios)}


def _race(arms: dict[str, _Build], millions: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return each arm's seconds per step and its difference from the plain loop after the first turn."""
    draw = torch.Generator().manual_seed(0)
    start, slope = (torch.randn(millions * 1_000_000, generator=draw) for _ in range(2))
    right = _Stepping.of(_torch(foreach=False, fused=False), start, slope)
    right.step_s(options.steps)
    running = {arm: _Stepping.of(build, start, slope) for arm, build in arms.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    apart = {}
    for repeat in range(options.repeats):
        for arm, stepping in _rotated(list(running.items()), repeat):
            seconds[arm].append(stepping.step_s(options.steps))
            if repeat == 0:
                apart[arm] = float((stepping.parameter - right.parameter).detach().abs().max())
                assert apart[arm] <= _AGREE_WITHIN, f"parameters of {arm} differ by {apart[arm]:.2g}"
    return [
        {"millions": millions, "arm": arm, "seconds": values, "apart": apart[arm]}
        for arm, values in seconds.items()
    ]


def _ratios(rows: list[dict[str, Any]], millions: int) -> list[Ratio]:
    """Return ratios of the times in the same turn, since the speed of a machine changes between turns."""
    seconds = {row["arm"]: row["seconds"] for row in rows if row["millions"] == millions}
    best = min((_TORCH, _DEEPSPEED), key=lambda arm: statistics.median(seconds[arm]))
    pairs = [
        (_AUTO, best, f"vs. the fastest ({best})"),
        (_BY_NAME, _DEEPSPEED, f"vs. {_DEEPSPEED}"),
    ]
    return [
        Ratio(
            what=f"optimizer step, {millions}M parameters, {ours.removeprefix('Shardline, ')} {versus}",
            value=statistics.median(a / b for a, b in zip(seconds[ours], seconds[other], strict=True)),
            sense="at most",
            target=1.05,
        )
        for ours, other, versus in pairs
    ]


def _rotated(entries: list[Any], by: int) -> list[Any]:
    first = by % len(entries)
    return entries[first:] + entries[:first]


def _arms() -> dict[str, _Build]:
    """Return the function that makes the optimizer of a module, by arm."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    from train.config import OptimConfig
    from train.kernels.build import build
    from train.model.optim import build_optimizer

    build("cpu_adam")
    ours = OptimConfig(lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0)

    def chosen(kernel: str) -> _Build:
        return lambda module: build_optimizer(module, ours, kernel=kernel)

    return {
        _AUTO: chosen("fused"),
        _BY_NAME: chosen("cpu_adam"),
        _TORCH: _torch(fused=True),
        _DEEPSPEED: lambda module: DeepSpeedCPUAdam(module.parameters(), **_SETTINGS),
    }


def _torch(**how: Any) -> _Build:
    return lambda module: torch.optim.AdamW(module.parameters(), **_SETTINGS, **how)


@dataclass(frozen=True, slots=True)
class _Stepping:
    """An optimizer and its parameter after a first step, which creates the states."""

    parameter: torch.nn.Parameter
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, build: _Build, start: torch.Tensor, slope: torch.Tensor) -> Self:
        """Build the optimizer for a copy of `start`, with `slope` as gradient."""
        parameter = torch.nn.Parameter(start.clone())
        parameter.grad = slope
        stepping = cls(parameter, build(torch.nn.ParameterList([parameter])))
        stepping.optimizer.step()
        return stepping

    def step_s(self, steps: int) -> float:
        """Run some steps and return the median of their seconds."""
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            self.optimizer.step()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)


def table(result: dict[str, Any]) -> str:
    """Return the table of milliseconds by size and arm."""
    lines = [
        f"fp32, {result['threads']} threads",
        "",
        "| parameters | AdamW | ms per step, median (range) | difference from the plain loop |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['millions']}M | {row['arm']} | {spread([1000 * s for s in row['seconds']], 1)}"
        f" | {row['apart']:.1e} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

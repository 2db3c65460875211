"""An optimizer step: what Shardline takes, beside the fused AdamW for hosts of torch and of DeepSpeed.

    python -m benchmarks.optimizer [--parameters-m 32 128] [--steps 5] [--repeats 5]

Fp32 parameters in one flat tensor, as a rank's partition under ZeRO. The arms take turns in one process; each
makes the same steps from the same start, and the parameters that it ends with are compared with those of
torch's plain loop, which takes five times as long and is not timed. DeepSpeed's AdamW is built before anything
is timed, which takes a compiler and half a minute.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.arms.task import cached_in
from benchmarks.harness import Ratio, as_json, run_as_command, spread

TITLE = "Optimizer step"
NOTES = (
    "On a host `kernels=auto` takes torch's fused AdamW, which needs no compiler. DeepSpeed's is compiled for"
    " the very processor, and takes a tenth less on some; who names it gets it: `kernels.optimizer=cpu_adam`"
    " with `zero.offload_optimizer=true`. DeepSpeed's FusedAdam is left out: on a host it is the same code."
)
_OURS = {"kernels=auto": "fused", "cpu_adam by name": "cpu_adam"}
"""Ours by how they are chosen."""
_SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
_AGREE_WITHIN = 1e-5


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--parameters-m", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every arm at every size, in turns."""
    import torch

    os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        arms = _arms()
        rows, ratios = [], []
        for millions in options.parameters_m:
            seconds: dict[str, list[float]] = {arm: [] for arm in arms}
            ends: dict[str, Any] = {}
            draw = torch.Generator().manual_seed(0)
            start, slope = (torch.randn(millions * 1_000_000, generator=draw) for _ in range(2))
            _, right = _steps(_torch(foreach=False, fused=False), start, slope, options.steps)
            for repeat in range(options.repeats):
                # Whoever comes first finds memory that nobody has touched: each one does once.
                for arm, build in _rotated(list(arms.items()), repeat):
                    spent, ends[arm] = _steps(build, start, slope, options.steps)
                    seconds[arm].append(spent)
            for arm, end in ends.items():
                apart = float((end - right).abs().max())
                assert apart <= _AGREE_WITHIN, f"{arm} ends elsewhere: {apart:.2g}"
                rows.append({"millions": millions, "arm": arm, "seconds": seconds[arm], "apart": apart})
            medians = {arm: statistics.median(values) for arm, values in seconds.items()}
            ours = {how: medians.pop(f"Shardline, {how}") for how in _OURS}
            best = min(medians, key=lambda arm: medians[arm])
            ratios += [
                Ratio(
                    what=f"optimizer step, {millions}M parameters, {how}, beside the best ({best})",
                    value=seconds_a_step / medians[best],
                    sense="at most",
                    target=1.05,
                )
                for how, seconds_a_step in ours.items()
            ]
    return {"threads": torch.get_num_threads(), "rows": rows, "ratios": as_json(ratios)}


def _rotated(entries: list[Any], by: int) -> list[Any]:
    first = by % len(entries)
    return entries[first:] + entries[:first]


def _arms() -> dict[str, Callable[[Any], Any]]:
    """By name: from a module to its optimizer."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    from train.config import OptimConfig
    from train.kernels.build import build
    from train.optim import build_optimizer

    build("cpu_adam")
    ours = OptimConfig(lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0)

    def chosen(kernel: str) -> Callable[[Any], Any]:
        return lambda module: build_optimizer(module, ours, kernel=kernel)

    return {
        **{f"Shardline, {how}": chosen(kernel) for how, kernel in _OURS.items()},
        "torch, fused": _torch(fused=True),
        "DeepSpeed CPUAdam": lambda module: DeepSpeedCPUAdam(module.parameters(), **_SETTINGS),
    }


def _torch(**how: Any) -> Callable[[Any], Any]:
    from torch.optim import AdamW

    return lambda module: AdamW(module.parameters(), **_SETTINGS, **how)


def _steps(build: Callable[[Any], Any], start: Any, slope: Any, steps: int) -> tuple[float, Any]:
    """Seconds of a step, the median, and a part of what the parameters became."""
    import torch

    parameter = torch.nn.Parameter(start.clone())
    parameter.grad = slope
    optimizer = build(torch.nn.ParameterList([parameter]))
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    # The first one makes the optimizer's states.
    return statistics.median(seconds[1:]), parameter.detach()[::1000].clone()


def table(result: dict[str, Any]) -> str:
    """Milliseconds by size and arm."""
    lines = [
        f"fp32, {result['threads']} threads",
        "",
        "| parameters | AdamW | ms a step, median (range) | off the loop by |",
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

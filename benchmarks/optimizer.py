"""AdamW over states that ZeRO offloads to the host: torch's loop, torch's fused one, DeepSpeed's.

    python -m benchmarks.optimizer [--parameters 32000000] [--threads 2] [--repeats 15] [--json]

What a rank's step works on: one flat fp32 partition with its gradient and two moments. The arms take turns,
each on tensors of its own; DeepSpeed's is built before, where it is not yet. Prints a table or, with --json,
the numbers.
"""

import argparse
import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any

import torch

from train.kernels.adamw import make_adamw
from train.kernels.ops import build_in_child

ARMS = ("torch", "fused", "cpu_adam")


def main() -> None:
    """Step every arm in turn, again and again, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=32_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if said := build_in_child("cpu_adam"):
        sys.exit(f"cpu_adam could not be compiled: {said}")
    optimizers = {arm: _optimizer(arm, options.parameters) for arm in ARMS}
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for repeat in range(options.repeats + 1):
        for arm, optimizer in optimizers.items():
            began = time.perf_counter()
            optimizer.step()
            if repeat:  # The first step makes the moments.
                seconds[arm].append(time.perf_counter() - began)
    ends = {arm: optimizer.param_groups[0]["params"][0].detach() for arm, optimizer in optimizers.items()}
    result = {
        "versions": {name: version(name) for name in ("torch", "deepspeed")},
        "parameters": options.parameters,
        "threads": options.threads,
        "rows": [
            {"arm": arm, "seconds": seconds[arm], "apart": float((ends[arm] - ends["torch"]).abs().max())}
            for arm in ARMS
        ],
    }
    print(json.dumps(result, indent=2) if options.json else _table(result))


def _optimizer(arm: str, parameters: int) -> torch.optim.Optimizer:
    draw = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(parameters, generator=draw))
    weight.grad = torch.randn(parameters, generator=draw)
    group = {"params": [weight], "weight_decay": 0.1}
    return make_adamw(arm, [group], lr=1e-3, betas=(0.9, 0.95), eps=1e-8)


def _table(result: dict[str, Any]) -> str:
    rows = [
        f"| {row['arm']} | {statistics.median(row['seconds']) * 1e3:.1f}"
        f" | {min(row['seconds']) * 1e3:.1f} to {max(row['seconds']) * 1e3:.1f} | {row['apart']:.1e} |"
        for row in result["rows"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n".join(
        [
            f"{result['parameters']:,} parameters, {result['threads']} threads, {versions},"
            f" {len(result['rows'][0]['seconds'])} steps",
            "",
            "| kernels.optimizer | ms a step, median | range | weights off the loop's by |",
            "|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()

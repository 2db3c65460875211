"""Measure training on equal input: Shardline, a bare DeepSpeed loop and Hugging Face's Trainer.

    python -m benchmarks.equal [--stages 1 2 3] [--steps 5] [--repeats 3]

All arms train the same random weights on the same sequences of equal length in the same order, with one
thread per rank, in bf16 if the processor has fast bf16 products and otherwise in fp32. They alternate. Tokens
per second are those of all steps after the first two, including the time between steps for data, metrics and
logging. The benchmark asserts that DeepSpeed uses the requested stage.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import bare, shardline, trainer
from benchmarks.arms.task import Task, Trace, cached_in, write_documents, write_model
from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread

TITLE = "Equal input"
NOTES = (
    "On sequences of equal length all arms compute the same matrix products, so large differences are not"
    " possible. What differs is the loss head, the optimizer and the time between steps. *Shardline, all"
    " logits* does not use the chunked loss head (`kernels.loss_head=torch`), whose effect grows with the"
    " speed of the processor. On a slower processor without AVX-512, in fp32, the speed of a single arm"
    " varied from 1.2 to 1.6 thousand tokens/s, and the six ratios were 0.96 to 1.24."
)
WARM_UP = 2
LENGTH, PER_RANK = 256, 4
_OURS, _PLAIN, _FUSED = "Shardline", "Shardline, all logits", "HF Trainer, fused AdamW"
ARMS: dict[str, Callable[[Task], Trace]] = {
    _OURS: shardline.train,
    "bare DeepSpeed loop, fused AdamW": bare.train,
    "HF Trainer, default": lambda task: trainer.train(task, fused=False, documents_in_order=True),
    _PLAIN: lambda task: shardline.train(task, "kernels.loss_head=torch"),
    _FUSED: lambda task: trainer.train(task, fused=True, documents_in_order=True),
}
_AT_ZERO_2_ONLY = (_PLAIN, _FUSED)
_TARGETS = {"bare DeepSpeed loop, fused AdamW": 0.98, "HF Trainer, default": 1.03}
_LOSSES_WITHIN = 0.05
"""Largest allowed difference between losses; the loss falls by about half a nat per step."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--stages", type=int, choices=(1, 2, 3), nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=at_least(WARM_UP + 1), default=5)
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms at all stages, alternating."""
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        task = _task(Path(name), options.steps)
        traces: dict[tuple[int, str], list[Trace]] = {
            (stage, arm): []
            for stage in options.stages
            for arm in ARMS
            if stage == 2 or arm not in _AT_ZERO_2_ONLY
        }
        for _ in range(options.repeats):
            for (stage, arm), found in traces.items():
                found.append(ARMS[arm](replace(task, stage=stage)))
    rows = [_row(stage, arm, found, traces[stage, _OURS]) for (stage, arm), found in traces.items()]
    speeds = {key: statistics.median(row["speeds"]) for key, row in zip(traces, rows, strict=True)}
    ratios = [
        Ratio(
            what=f"tokens/s, equal input, ZeRO-{stage} vs. {arm}",
            value=speeds[stage, _OURS] / speeds[stage, arm],
            sense="at least",
            target=target,
        )
        for stage in options.stages
        for arm, target in _TARGETS.items()
    ]
    return {
        "ranks": task.ranks,
        "precision": task.precision,
        "steps": options.steps,
        "rows": rows,
        "ratios": as_json(ratios),
    }


def _row(stage: int, arm: str, traces: list[Trace], ours: list[Trace]) -> dict[str, Any]:
    losses = traces[0].losses
    apart = max(abs(a - b) for a, b in zip(losses, ours[0].losses, strict=True))
    assert apart <= _LOSSES_WITHIN, f"losses of {arm} at ZeRO-{stage} differ by {apart:.3f} nats"
    speeds = [trace.tokens_per_s(WARM_UP) for trace in traces]
    return {"stage": stage, "arm": arm, "speeds": speeds, "losses": losses, "apart": apart}


def _task(folder: Path, steps: int) -> Task:
    documents = steps * PER_RANK * 2
    return Task(
        folder=folder,
        model=write_model(folder / "model", length=LENGTH),
        train=write_documents(folder / "train.jsonl", np.full(documents, LENGTH), seed=1),
        held_out=write_documents(folder / "held_out.jsonl", np.full(2, LENGTH), seed=2),
        length=LENGTH,
        micro_batch_size=PER_RANK,
        steps=steps,
        stage=2,
    )


def table(result: dict[str, Any]) -> str:
    """Return the table of speeds and losses by stage and arm."""
    lines = [
        f"8.8M parameters, {result['precision']}, {LENGTH} tokens x {PER_RANK} on each of"
        f" {result['ranks']} ranks, {result['steps']} steps",
        "",
        "| ZeRO | arm | tokens/s, median (range) | first loss | last loss | loss difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['stage']} | {row['arm']} | {spread(row['speeds'], 0)} | {row['losses'][0]:.4f}"
        f" | {row['losses'][-1]:.4f} | {row['apart']:.4f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

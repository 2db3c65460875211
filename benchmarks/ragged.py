"""Measure training on documents of different lengths, with padding, grouping or packing, in several tools.

    python -m benchmarks.ragged [--documents 80] [--repeats 3]

Each arm trains for one epoch on the same documents (lengths log-normal, median 150 tokens, sigma 0.8,
truncated to 512) from the same weights, with ZeRO-2 and about the same number of tokens per step. The arms
alternate. Useful tokens are those that are not padding, per second of all steps after the first two. The
table also has the loss on held-out documents.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import shardline, trainer
from benchmarks.arms.task import Task, Trace, cached_in, write_documents, write_model
from benchmarks.harness import Ratio, as_json, at_least, run_as_command, spread
from train.data.packing import pack_documents

TITLE = "Documents of different lengths"
NOTES = (
    "A micro-batch has 8 documents or 3 packs, which are about the same number of tokens. TRL joins the packs"
    " of a micro-batch into one row and separates them by the attention mask; it processes one pack at a time"
    " and accumulates three, so that its mask is no larger than Shardline's. With packing there are fewer"
    " steps for the same documents, so the held-out loss is higher after one epoch."
)
WARM_UP = 2
LENGTH, DOCUMENTS_PER_RANK, PACKS_PER_RANK = 512, 8, 3
_HELD_OUT_WITHIN = 0.15
"""Largest allowed difference of the held-out loss between arms that pack, and between those that do not."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--documents", type=at_least(64), default=80)
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms, alternating."""
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        folder = Path(name)
        lengths = _lengths(options.documents, seed=1)
        rows = Task(
            folder=folder,
            model=write_model(folder / "model", length=LENGTH),
            train=write_documents(folder / "train.jsonl", lengths, seed=1),
            held_out=write_documents(folder / "held_out.jsonl", _lengths(16, seed=2), seed=2),
            length=LENGTH,
            micro_batch_size=DOCUMENTS_PER_RANK,
            steps=options.documents // (2 * DOCUMENTS_PER_RANK),
            stage=2,
        )
        packs = len(pack_documents(lengths, capacity=LENGTH, seed=0))
        packed = replace(
            rows,
            micro_batch_size=PACKS_PER_RANK,
            steps=packs // (2 * PACKS_PER_RANK),
            arranged="packed",
        )
        grouped = replace(rows, arranged="grouped")
        arms: dict[str, Callable[[], Trace]] = {
            "Shardline, data.packing": lambda: shardline.train(packed),
            "Shardline, data.group_by_length": lambda: shardline.train(grouped),
            "HF Trainer, pad to longest": lambda: trainer.train(rows, fused=False),
            "HF Trainer, group_by_length, fused AdamW": lambda: trainer.train(grouped, fused=True),
            "TRL SFTTrainer, packing, fused AdamW": lambda: trainer.train_trl(packed),
        }
        traces: dict[str, list[Trace]] = {arm: [] for arm in arms}
        for _ in range(options.repeats):
            for arm, train in arms.items():
                traces[arm].append(train())
    return {"precision": rows.precision, "tokens": int(lengths.sum()), **_summary(traces)}


def _lengths(number: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).lognormal(math.log(150), 0.8, number)
    return np.clip(drawn.round().astype(np.int64), 8, LENGTH)


def _summary(traces: dict[str, list[Trace]]) -> dict[str, Any]:
    speeds = {arm: [trace.tokens_per_s(WARM_UP) for trace in runs] for arm, runs in traces.items()}
    held_out = {arm: runs[0].held_out_loss or math.nan for arm, runs in traces.items()}
    for packs in (True, False):
        alike = [loss for arm, loss in held_out.items() if ("packing" in arm) is packs]
        assert max(alike) - min(alike) <= _HELD_OUT_WITHIN, (
            f"the held-out losses of the arms differ: {held_out}"
        )
    packing, grouping, padded, grouped, trl = (statistics.median(values) for values in speeds.values())
    ratios = [
        Ratio(
            what="useful tokens/s, different lengths vs. HF Trainer, pad to longest",
            value=max(packing, grouping) / padded,
            sense="at least",
            target=1.9,
        ),
        Ratio(
            what="useful tokens/s, different lengths vs. HF Trainer, group_by_length, fused AdamW",
            value=max(packing, grouping) / grouped,
            sense="at least",
            target=1.0,
        ),
        Ratio(
            what="useful tokens/s, packing vs. TRL's packing",
            value=packing / trl,
            sense="at least",
            target=1.0,
        ),
    ]
    rows = [
        {
            "arm": arm,
            "speeds": speeds[arm],
            "steps": len(runs[0].losses),
            "first_loss": runs[0].losses[0],
            "held_out_loss": held_out[arm],
        }
        for arm, runs in traces.items()
    ]
    return {"rows": rows, "ratios": as_json(ratios)}


def table(result: dict[str, Any]) -> str:
    """Return the table of speeds and losses by arm."""
    lines = [
        f"8.8M parameters, {result['precision']}, ZeRO-2, 2 ranks, {result['tokens']:,} tokens",
        "",
        "| arm | useful tokens/s, median (range) | steps | first loss | held-out loss |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['arm']} | {spread(row['speeds'], 0)} | {row['steps']} | {row['first_loss']:.4f}"
        f" | {row['held_out_loss']:.4f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

"""Measure how full sequences are, and the time to arrange them: padding, grouping by length, packing.

    python -m benchmarks.packing

Document lengths are drawn from a log-normal distribution (median 150 tokens, sigma 0.8, truncated to the
sequence length). The arms use the same lengths and alternate: micro-batches of rows in random order; the same
sorted within each global batch, which is the default of a run; batches of similar length
(`data.group_by_length`); packs that are closed when the next document does not fit; and `data.packing`. No
model runs: the share of tokens that are not padding is exact, and the time is that of one core.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import at_least, run_as_command, spread
from train.data.packing import pack_documents
from train.data.sampler import Order

TITLE = "Padding and packing"
NOTES = (
    "The share does not depend on the machine. Grouping is computed once per epoch and packing once per run;"
    " the times are for a million documents."
)
MEDIAN_TOKENS = 150
SIGMA = 0.8
MICRO_BATCH = 8
GLOBAL_BATCH = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--documents", type=at_least(1), default=1_000_000)
    parser.add_argument("--capacity", type=at_least(1), nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Arrange the same documents in all ways, alternating."""
    return {
        "documents": options.documents,
        "repeats": options.repeats,
        "rows": [
            row
            for capacity in options.capacity
            for row in _measure(_lengths(options.documents, capacity), capacity, options.repeats)
        ],
    }


def _lengths(documents: int, capacity: int) -> np.ndarray:
    drawn = np.random.default_rng(0).lognormal(math.log(MEDIAN_TOKENS), SIGMA, documents)
    return np.clip(drawn.round().astype(np.int64), 1, capacity)


def _measure(lengths: np.ndarray, capacity: int, repeats: int) -> list[dict[str, Any]]:
    arms: dict[str, Callable[[], float]] = {
        "rows as they come": lambda: _share_in_micro_batches(_rows(lengths)),
        "sorted in each global batch": lambda: _share_in_micro_batches(np.sort(_rows(lengths), axis=1)),
        "data.group_by_length": lambda: _share_in_micro_batches(
            np.sort(_rows(lengths, GLOBAL_BATCH), axis=1)
        ),
        "packs closed in order": lambda: lengths.sum() / (_packs_in_order(lengths, capacity) * capacity),
        "data.packing": lambda: lengths.sum() / (_packs(lengths, capacity) * capacity),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    share = {}
    for _ in range(repeats):
        for name, arrange in arms.items():
            began = time.perf_counter()
            share[name] = float(arrange())
            seconds[name].append(time.perf_counter() - began)
    return [
        {"capacity": capacity, "arm": name, "share": share[name], "seconds": seconds[name]} for name in arms
    ]


def _rows(lengths: np.ndarray, group_by: int | None = None) -> np.ndarray:
    """Return the lengths in the order of an epoch, with one global batch per row."""
    order = Order(lengths, seed=0, group_by=group_by).epoch(0)
    whole: np.ndarray = lengths[order[: len(order) // GLOBAL_BATCH * GLOBAL_BATCH]]
    return whole.reshape(-1, GLOBAL_BATCH)


def _share_in_micro_batches(rows: np.ndarray) -> float:
    micro = rows.reshape(-1, MICRO_BATCH)
    return float(micro.sum() / (micro.max(axis=1).sum() * MICRO_BATCH))


def _packs(lengths: np.ndarray, capacity: int) -> int:
    return len(pack_documents(lengths, capacity=capacity, seed=0))


def _packs_in_order(lengths: np.ndarray, capacity: int) -> int:
    """Return the number of packs if each is closed when the next document does not fit."""
    packs, free = 0, 0
    for length in lengths.tolist():
        if length > free:
            packs, free = packs + 1, capacity
        free -= length
    return packs


def table(result: dict[str, Any]) -> str:
    """Return the table of shares and seconds by capacity and arrangement."""
    return "\n".join(
        [
            f"{result['documents']:,} documents, micro-batch {MICRO_BATCH}, global batch {GLOBAL_BATCH},"
            f" on one core, {result['repeats']} repeats",
            "",
            "| tokens per sequence | arrangement | not padding | seconds, median (range) |",
            "|---|---|---|---|",
            *(
                f"| {row['capacity']:,} | {row['arm']} | {row['share']:.4f} | {spread(row['seconds'])} |"
                for row in result["rows"]
            ),
        ]
    )


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

"""Compare the chunked loss head with cross entropy over all logits: time and memory, forward and backward.

    python -m benchmarks.loss_head [--vocabulary 131072] [--tokens 2048] [--width 512] [--repeats 3] [--json]

Each measurement runs in its own process, so that peak memory is measured separately; the arms alternate.
Losses and gradients are compared with fp64.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from benchmarks.harness import Ratio, as_json, at_least, host_precision, run_as_command, spread
from benchmarks.ranks import measured_alone
from train.kernels.loss_head import linear_cross_entropy_sum
from train.measure.memory import memory_gb

TITLE = "The loss head"
NOTES = "The remaining memory is the weights' gradient in fp32 and one chunk of logits."
_SIZES = ("vocabulary", "tokens", "width", "threads")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_LEFT_OUT = "bf16 is omitted: this processor has no bf16 instructions, and all logits would take minutes."
_ARMS = ("naive", "ours")
# Rows of each gradient that are compared with fp64; few enough to pass between processes.
_HIDDEN_PROBE, _WEIGHT_PROBE = slice(None, None, 64), slice(None, None, 4096)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--vocabulary", type=at_least(1), default=131_072)
    parser.add_argument("--tokens", type=at_least(1), default=2048)
    parser.add_argument("--width", type=at_least(1), default=512)
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count())
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms in all dtypes, alternating."""
    dtypes = [dtype for dtype in _DTYPES if dtype in ("fp32", host_precision())]
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {
        dtype: {arm: [] for arm in (*_ARMS, "exact")} for dtype in dtypes
    }
    for dtype, arms in rows.items():
        for _ in range(options.repeats):
            for arm in _ARMS:
                arms[arm].append(measured_alone(_measure, arm, dtype, options))
        arms["exact"].append(measured_alone(_measure, "exact", dtype, options))
    result = {dtype: _summary(arms) for dtype, arms in rows.items()}
    sizes = {name: getattr(options, name) for name in _SIZES}
    return {"sizes": sizes, "dtypes": result, "ratios": as_json(list(_ratios(result)))}


def _ratios(result: dict[str, Any]) -> Iterator[Ratio]:
    for dtype, summary in result.items():
        yield Ratio(
            what=f"loss head, {dtype}, extra memory vs. all logits",
            value=summary["memory_ratio"],
            sense="at most",
            target=0.2,
        )
        yield Ratio(
            what=f"loss head, {dtype}, time vs. all logits",
            value=summary["time_ratio"],
            sense="at most",
            target=1.0,
        )


def _measure(arm: str, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(options.tokens, options.width, generator=draw).to(_DTYPES[dtype])
    weight = (torch.randn(options.vocabulary, options.width, generator=draw) / 50).to(_DTYPES[dtype])
    labels = torch.randint(options.vocabulary, (options.tokens,), generator=draw)
    if arm == "exact":
        return _exact(hidden, weight, labels)
    hidden.requires_grad_()
    weight.requires_grad_()
    before_gb, _ = memory_gb(hidden.device)
    began = time.perf_counter()
    if arm == "ours":
        loss = linear_cross_entropy_sum(hidden, weight, None, labels)
    else:
        loss = functional.cross_entropy(functional.linear(hidden, weight).float(), labels, reduction="sum")
    (loss / options.tokens).backward()
    seconds = time.perf_counter() - began
    _, peak_gb = memory_gb(hidden.device)
    assert hidden.grad is not None
    assert weight.grad is not None
    return {
        "seconds": seconds,
        "extra_gb": peak_gb - before_gb,
        "loss": float(loss.detach()) / options.tokens,
        "probe": _listed(hidden.grad[_HIDDEN_PROBE], weight.grad[_WEIGHT_PROBE]),
    }


def _exact(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Compute the loss and the compared gradients in fp64, in chunks because all logits need tens of GB."""
    loss, wide = 0.0, weight.double()
    grad_weight = torch.zeros_like(wide[_WEIGHT_PROBE])
    grad_hidden = []
    for start in range(0, len(hidden), 128):
        part, target = hidden[start : start + 128].double(), labels[start : start + 128]
        logits = part @ wide.T
        loss += float(functional.cross_entropy(logits, target, reduction="sum"))
        slope = torch.softmax(logits, 1)
        slope[torch.arange(len(target)), target] -= 1.0
        grad_hidden.append(slope[_HIDDEN_PROBE] @ wide / len(hidden))
        grad_weight.addmm_(slope[:, _WEIGHT_PROBE].T, part, alpha=1 / len(hidden))
    return {"loss": loss / len(hidden), "probe": _listed(torch.cat(grad_hidden), grad_weight)}


def _listed(*gradients: torch.Tensor) -> list[list[float]]:
    return [gradient.double().flatten().tolist() for gradient in gradients]


def _summary(arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    [exact] = arms["exact"]
    summary: dict[str, Any] = {"exact_loss": exact["loss"]}
    for arm in _ARMS:
        runs = arms[arm]
        cosines = [
            float(functional.cosine_similarity(torch.tensor(ours), torch.tensor(right), dim=0))
            for ours, right in zip(runs[0]["probe"], exact["probe"], strict=True)
        ]
        summary[arm] = {
            "seconds": [run["seconds"] for run in runs],
            "extra_gb": statistics.median(run["extra_gb"] for run in runs),
            "loss": runs[0]["loss"],
            "loss_off_by": abs(runs[0]["loss"] - exact["loss"]),
            "lowest_cosine": min(cosines),
        }
    ours, naive = summary["ours"], summary["naive"]
    summary["time_ratio"] = statistics.median(ours["seconds"]) / statistics.median(naive["seconds"])
    summary["memory_ratio"] = ours["extra_gb"] / naive["extra_gb"]
    return summary


def table(result: dict[str, Any]) -> str:
    """Return the table of time, memory and accuracy by dtype and arm."""
    sizes = result["sizes"]
    lines = [
        f"vocabulary {sizes['vocabulary']:,}, {sizes['tokens']:,} tokens, width {sizes['width']},"
        f" {sizes['threads']} threads",
        "",
        "| | seconds, median (range) | extra memory | loss | difference from fp64 | gradient cosine |",
        "|---|---|---|---|---|---|",
    ]
    for dtype, summary in result["dtypes"].items():
        for arm, name in (("naive", "all logits"), ("ours", "chunked")):
            entry = summary[arm]
            times = entry["seconds"]
            lines.append(
                f"| {dtype}, {name} | {spread(times)}"
                f" | {entry['extra_gb']:.2f} GB | {entry['loss']:.4f} | {entry['loss_off_by']:.1e}"
                f" | {entry['lowest_cosine']:.6f} |"
            )
    return "\n".join(lines if "bf16" in result["dtypes"] else [*lines, "", _LEFT_OUT])


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

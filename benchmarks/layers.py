"""Measure memory and time of layers, forward and backward, with activation checkpointing or compiled.

    python -m benchmarks.layers [--layers 2] [--tokens 512] [--repeats 3]

The layers are those of SmolLM2-135M (Llama, hidden 576, feed-forward 1536, 9 heads, 3 for keys and values),
the sequences have 256 tokens. Each measurement runs in its own process and is the median of three passes
after two for compilation and warm-up; the arms alternate. Memory is the peak that a pass adds to the resident
set.
"""

import argparse
import ctypes
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.arms.task import cached_in
from benchmarks.harness import at_least, run_as_command, spread
from benchmarks.ranks import measured_alone
from train.model.activation_checkpointing import checkpoint_layers
from train.model.compiling import compilation, compile_layers, keep_compiled_code

TITLE = "Activation checkpointing and torch.compile"
NOTES = ""
_SIZES = ("layers", "tokens", "threads")
_SEQUENCE = 256
_ARMS = [("none", "false"), ("selective", "false"), ("full", "false"), ("none", "true")]
_PASSES = 3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--layers", type=at_least(1), default=2)
    parser.add_argument("--tokens", type=at_least(1), default=512)
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--repeats", type=at_least(1), default=3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms, alternating."""
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        arms: dict[str, list[dict[str, Any]]] = {" ".join(arm): [] for arm in _ARMS}
        for _ in range(options.repeats):
            for arm in _ARMS:
                arms[" ".join(arm)].append(measured_alone(_measure, *arm, options))
    return {"sizes": {name: getattr(options, name) for name in _SIZES}, "arms": arms}


def _measure(way: Any, compiled: str, options: argparse.Namespace) -> dict[str, Any]:
    # Freed memory is returned to the system immediately, so that the resident set is the memory in use.
    libc = ctypes.CDLL(None)
    assert libc.mallopt(_M_MMAP_THRESHOLD, 65_536)
    assert libc.mallopt(_M_TRIM_THRESHOLD, 0)
    keep_compiled_code()
    from transformers import AutoModel, LlamaConfig

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_attention_heads=9,
        num_key_value_heads=3,
        num_hidden_layers=options.layers,
        vocab_size=512,
        use_cache=False,
    )
    model: Any = AutoModel.from_config(shape, dtype=torch.float32).train()
    if way != "none":
        checkpoint_layers(model, way)
    if compiled == "true":
        compile_layers(model, device="cpu")
    ids = torch.randint(512, (options.tokens // _SEQUENCE, _SEQUENCE))
    seconds = [_pass(model, ids) for _ in range(2 + _PASSES)][2:]
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    _pass(model, ids)
    return {
        "seconds": statistics.median(seconds),
        "extra_mb": _status_mb("VmHWM") - before,
        "compile_s": compilation(options.layers).seconds if compiled == "true" else 0.0,
    }


def _pass(model: Any, ids: torch.Tensor) -> float:
    began = time.perf_counter()
    model(input_ids=ids).last_hidden_state.square().mean().backward()
    return time.perf_counter() - began


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def table(result: dict[str, Any]) -> str:
    """Return the table of time and memory by arm."""
    sizes = result["sizes"]
    lines = [
        f"{sizes['layers']} layers, {sizes['tokens']} tokens, fp32, {sizes['threads']} thread",
        "",
        "| `activation_checkpointing` | `compile` | seconds per pass, median (range) | extra memory"
        " | compile time with an empty cache, with a filled one |",
        "|---|---|---|---|---|",
    ]
    for name, rows in result["arms"].items():
        way, compiled = name.split()
        times = [row["seconds"] for row in rows]
        compiling = (
            f"{rows[0]['compile_s']:.0f} s, {rows[-1]['compile_s']:.0f} s" if compiled == "true" else ""
        )
        lines.append(
            f"| {way} | {compiled} | {spread(times)}"
            f" | {statistics.median(row['extra_mb'] for row in rows):.0f} MB | {compiling} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

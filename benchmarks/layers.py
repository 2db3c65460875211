"""What layers keep and how long they take: activation checkpointing, compiled or not, forward and backward.

    python -m benchmarks.layers [--layers 6] [--tokens 1024] [--repeats 3] [--json]

The layers are SmolLM2-135M's (Llama, hidden 576, feed-forward 1536, 9 heads, 3 for keys and values), the
sequences have 256 tokens. Each measurement is a process of its own, the median of three passes after two that
compiled and warmed up; the arms take turns. Memory is what a pass adds to the resident set at its peak.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, LlamaConfig

from train.activations import checkpoint_layers
from train.compiling import compilation, compile_layers

_SEQUENCE = 256
_ARMS = [(way, compiled) for compiled in ("false", "true") for way in ("none", "selective", "full")]
_PASSES = 3


def main() -> None:
    """Parse; measure in child processes; print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "COMPILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_measure(options, options.child[0], compiled=options.child[1] == "true")))
        return
    result: dict[str, list[dict[str, Any]]] = {" ".join(arm): [] for arm in _ARMS}
    for _ in range(options.repeats):
        for arm in _ARMS:
            result[" ".join(arm)].append(_child(options, *arm))
    print(json.dumps(result, indent=2) if options.json else _table(options, result))


def _child(options: argparse.Namespace, way: str, compiled: str) -> dict[str, Any]:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("layers", "tokens", "threads")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", *sizes, "--child", way, compiled],
        # What is freed goes back at once, so that the resident set tells what is held.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(options: argparse.Namespace, way: Any, *, compiled: bool) -> dict[str, Any]:
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
    if compiled:
        compile_layers(model, device="cpu")
    ids = torch.randint(512, (options.tokens // _SEQUENCE, _SEQUENCE))
    seconds = [_pass(model, ids) for _ in range(2 + _PASSES)][2:]
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    _pass(model, ids)
    return {
        "seconds": statistics.median(seconds),
        "extra_mb": _status_mb("VmHWM") - before,
        "compile_s": compilation(options.layers).seconds if compiled else 0.0,
    }


def _pass(model: Any, ids: torch.Tensor) -> float:
    began = time.perf_counter()
    model(input_ids=ids).last_hidden_state.square().mean().backward()
    return time.perf_counter() - began


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _table(options: argparse.Namespace, result: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        f"{options.layers} layers, {options.tokens} tokens, fp32, {options.threads} thread(s),"
        f" torch {torch.__version__}",
        "",
        "| `activation_checkpointing` | `compile` | seconds a pass, median (range) | extra memory"
        " | compiling, with an empty cache and later |",
        "|---|---|---|---|---|",
    ]
    for name, rows in result.items():
        way, compiled = name.split()
        times = [row["seconds"] for row in rows]
        compiling = (
            f"{rows[0]['compile_s']:.0f} s, {rows[-1]['compile_s']:.0f} s" if compiled == "true" else ""
        )
        lines.append(
            f"| {way} | {compiled} | {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
            f" | {statistics.median(row['extra_mb'] for row in rows):.0f} MB | {compiling} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

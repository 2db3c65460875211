"""Compare Shardline with Hugging Face's Trainer on one GPU: speed, MFU, memory and losses.

    python -m benchmarks.gpu [--model package:NAME] [--length 2048] [--batch 4] [--steps 20] [--repeats 3]

Both arms fine-tune all parameters of the same weights on the same documents of equal length, in the same
order: bf16, DeepSpeed ZeRO 2, torch's fused AdamW for the Trainer, and Liger's kernels and flash attention if
the packages are installed (the title tells which). Shardline chooses its other kernels by `kernels=auto`.
Without `--model` the model is Llama 3.2 1B with random weights. The arms alternate; speeds are those of all
steps after the first five, including the time between steps. MFU is computed by `train/flops.py`: six FLOPs
per parameter and token, causal attention counted by half.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.arms import shardline, trainer
from benchmarks.arms.task import (
    SMALL,
    Task,
    Trace,
    cached_in,
    write_documents,
    write_model,
    write_plain_text,
)
from benchmarks.harness import at_least, host_precision, run_as_command, spread
from launcher.planning.estimate.duration import model_work
from launcher.planning.estimate.shape import model_shape
from train.dist import disable_shared_memory_op
from train.flops import SpeedPlan, utilisation

TITLE = "On one GPU"
NOTES = "MFU counts six FLOPs per parameter and token, and causal attention by half."
WARM_UP = 5
LLAMA_1B = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}


def _train_shardline(task: Task) -> Trace:
    """In a run directory that holds one checkpoint of some 17 GB, and is removed with it."""
    with tempfile.TemporaryDirectory(dir=task.folder) as name:
        return shardline.train(
            replace(task, folder=Path(name)), "checkpoint.keep_last=1", "data.validation=null"
        )


ARMS: dict[str, Callable[[Task], Trace]] = {
    "Shardline": _train_shardline,
    "HF Trainer": lambda task: trainer.train(task, fused=True, documents_in_order=True),
}
_PEAK_TFLOPS_BF16 = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0}
"""Dense bf16 peak by a part of the GPU's name, from the data sheets."""
_LOSSES_WITHIN = 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--model", help="hub:, path: or package: as in model.source")
    parser.add_argument("--length", type=at_least(8), default=2048)
    parser.add_argument("--batch", type=at_least(1), default=4)
    parser.add_argument("--steps", type=at_least(1), default=20, help="counted steps, after the first five")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument(
        "--small", action="store_true", help="9M random parameters, on the CPU if there is no GPU"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both arms, alternating."""
    device_name = _gpu_name()
    if device_name is None and not options.small:
        print(
            "no GPU found: run benchmarks.gpu on a machine with an NVIDIA GPU and a CUDA build of torch, or"
            " use --small to try both arms on the CPU",
            file=sys.stderr,
        )
        sys.exit(2)
    os.environ["DS_ACCELERATOR"] = "cuda" if device_name else "cpu"
    if device_name is None:
        # The only rank of each arm has no peer to share memory with.
        disable_shared_memory_op()
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        task = _task(Path(name), options, "cuda" if device_name else "cpu")
        traces: dict[str, list[Trace]] = {arm: [] for arm in ARMS}
        for _ in range(options.repeats):
            for arm, train in ARMS.items():
                traces[arm].append(train(task))
        shape = model_shape(json.loads((task.model / "config.json").read_text()))
    speed = None
    peak = next((peak for part, peak in _PEAK_TFLOPS_BF16.items() if part in (device_name or "")), None)
    if shape and peak:
        speed = SpeedPlan(peak_tflops=peak, work=model_work(shape))
    return {
        "device": device_name or "CPU",
        "parameters": shape.parameters if shape else None,
        "length": task.length,
        "batch": task.micro_batch_size,
        "precision": task.precision,
        "steps": options.steps,
        "attention": task.attention,
        "liger": task.liger,
        "rows": [_row(arm, found, traces["Shardline"], task, speed) for arm, found in traces.items()],
    }


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _task(folder: Path, options: argparse.Namespace, device: Literal["cpu", "cuda"]) -> Task:
    from train.config import ModelConfig
    from train.model.load import prepare_model

    steps = WARM_UP + options.steps
    rows, length = steps * options.batch, options.length
    if options.model:
        model = prepare_model(ModelConfig(source=options.model), seed=0, labels=[])
        train = write_plain_text(folder / "train.jsonl", [length] * rows)
        held_out = write_plain_text(folder / "held_out.jsonl", [length] * 2)
    else:
        model = write_model(folder / "model", length=length, shape=SMALL if options.small else LLAMA_1B)
        train = write_documents(folder / "train.jsonl", np.full(rows, length), seed=1)
        held_out = write_documents(folder / "held_out.jsonl", np.full(2, length), seed=2)
    here = {entry.name for entry in distributions()} if device == "cuda" else set()
    return Task(
        folder=folder,
        model=model,
        train=train,
        held_out=held_out,
        length=length,
        micro_batch_size=options.batch,
        steps=steps,
        stage=2,
        ranks=1,
        lr=1e-5,
        device=device,
        precision="bf16" if device == "cuda" else host_precision(),
        attention="flash_attention_2" if "flash-attn" in here else "sdpa",
        liger="liger-kernel" in here,
    )


def _row(
    arm: str, traces: list[Trace], ours: list[Trace], task: Task, speed: SpeedPlan | None
) -> dict[str, Any]:
    losses = traces[0].losses
    apart = max(abs(a - b) for a, b in zip(losses, ours[0].losses, strict=True))
    assert apart <= _LOSSES_WITHIN, f"losses of {arm} differ by {apart:.3f} nats"
    speeds = [trace.tokens_per_s(WARM_UP) for trace in traces]
    return {
        "arm": arm,
        "speeds": speeds,
        "mfu": _mfu(speed, statistics.median(speeds), task.length) if speed else None,
        "peaks_gb": [trace.peak_gb for trace in traces],
        "losses": losses,
    }


def _mfu(speed: SpeedPlan, tokens_per_s: float, length: int) -> float:
    """Return the MFU at a speed, with sequences of this length."""
    tokens = round(tokens_per_s)
    return utilisation(speed, tokens=tokens, pairs=tokens * length, seconds=1.0, ranks=1)


def table(result: dict[str, Any]) -> str:
    """Return the table of speed, MFU, memory and losses by arm."""
    size = f"{result['parameters'] / 1e6:,.0f}M" if result["parameters"] else "uncounted"
    liger = "Liger's kernels" if result["liger"] else "without Liger's kernels"
    lines = [
        f"{size} parameters, {result['precision']}, ZeRO-2, {result['batch']} rows of {result['length']}"
        f" tokens a step, {result['steps']} steps, attention {result['attention']}, {liger},"
        f" on {result['device']}",
        "",
        "| arm | tokens/s, median (range) | MFU | peak memory, GB, median (range) | first loss | last loss |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['arm']} | {spread(row['speeds'], 0)} | {_share(row['mfu'])}"
        f" | {spread(row['peaks_gb'])} | {row['losses'][0]:.4f} | {row['losses'][-1]:.4f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def _share(mfu: float | None) -> str:
    return "peak unknown" if mfu is None else f"{mfu:.1%}"


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

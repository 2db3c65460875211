"""Shardline beside Hugging Face's Trainer on one GPU: speed, share of the GPU's peak, memory, losses.

    python -m benchmarks.gpu [--model package:NAME] [--length 2048] [--batch 4] [--steps 20] [--repeats 3]

Both arms fine-tune all parameters of the same weights on the same tokens, in the same order: bf16, DeepSpeed
ZeRO 2 with the same settings, torch's fused AdamW, and Liger's kernels and flash attention where the packages
are installed (the title says so). Shardline takes its kernels by `kernels=auto`. Without `--model` the
weights are random, in the shape of Llama 3.2 1B. Each measurement is a process of its own; the arms take
turns. Steps are timed from end to end, with all that lies between them, and the device idle at each; the
first ones are not counted. MFU by `train/flops.py`: six FLOPs per parameter and token, causal attention at
half. Prints a table or, with --json, the numbers.
"""

import argparse
import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_arms import ARMS, Work
from launcher.estimate.duration import model_work
from launcher.estimate.shape import model_shape
from train.flops import SpeedPlan, utilisation

PEAK_TFLOPS_BF16 = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0}
"""Dense, by a part of the GPU's name; from the makers' data sheets."""
LLAMA_1B = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}
TINY = {
    **LLAMA_1B,
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def main() -> None:
    """Parse; measure each arm in child processes; print."""
    options = _options()
    if options.child:
        work = Work(**json.loads(options.work))
        print(json.dumps({**ARMS[options.child](work), "memory_gb": _memory_gb()}))
        return
    if not (options.tiny or torch.cuda.is_available()):
        print(
            "benchmarks.gpu measures on an NVIDIA GPU, and torch sees none here: run it where nvidia-smi"
            " lists one, with a torch that was built for CUDA",
            file=sys.stderr,
        )
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        # DeepSpeed greets on stdout, which is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            directory = _weights(options, Path(folder))
        work = Work(
            directory=str(directory),
            device="cuda" if torch.cuda.is_available() else "cpu",
            attention="flash_attention_2" if _version("flash-attn") and not options.tiny else "sdpa",
            liger=_version("liger-kernel") is not None and not options.tiny,
            length=options.length,
            batch=options.batch,
            steps=options.steps,
            warm_up=options.warm_up,
        )
        runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
        for _ in range(options.repeats):
            for arm, measured in runs.items():
                measured.append(_child(arm, work))
        result = _summary(work, json.loads((directory / "config.json").read_text()), runs)
    print(json.dumps(result, indent=2) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="hub:, path: or package: as in model.source")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--warm-up", type=int, default=5, help="steps that are not counted, before the others"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser.parse_args()


def _weights(options: argparse.Namespace, folder: Path) -> Path:
    if options.model:
        from train.config import ModelConfig
        from train.model import prepare_model

        return prepare_model(ModelConfig(source=options.model), seed=0, labels=[])
    import transformers

    settings = transformers.LlamaConfig(**(TINY if options.tiny else LLAMA_1B))
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def _child(arm: str, work: Work) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    rank = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    device = {"DS_ACCELERATOR": work.device}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--child", arm, "--work", json.dumps(work.__dict__)],
        env={**os.environ, **rank, **device},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _summary(work: Work, config: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if work.device == "cuda" else "CPU"
    peak = next((peak for name, peak in PEAK_TFLOPS_BF16.items() if name in device), None)
    shape = model_shape(config)
    tokens, pairs = work.batch * work.length, work.batch * work.length**2
    rows = []
    for arm, measured in runs.items():
        step_s = [statistics.median(run["seconds"]) for run in measured]
        row: dict[str, Any] = {
            "arm": arm,
            "runs": measured,
            "tokens_per_s": [tokens / seconds for seconds in step_s],
        }
        row["mfu"] = None
        if peak and shape:
            speed = SpeedPlan(peak_tflops=peak, work=model_work(shape))
            seconds = statistics.median(step_s)
            row["mfu"] = utilisation(speed, tokens=tokens, pairs=pairs, seconds=seconds, ranks=1)
        rows.append(row)
    names = ("torch", "deepspeed", "transformers", "liger-kernel", "flash-attn")
    return {
        "device": device,
        "parameters": shape.parameters if shape else None,
        "work": work.__dict__,
        "versions": {name: version_ for name in names if (version_ := _version(name))},
        "rows": rows,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _table(result: dict[str, Any]) -> str:
    work = result["work"]
    size = (
        f"{result['parameters'] / 1e6:,.0f}M parameters" if result["parameters"] else "parameters uncounted"
    )
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    liger = "Liger's kernels" if work["liger"] else "without Liger's kernels (not installed)"
    return "\n".join(
        [
            f"{size}, bf16, ZeRO 2, {work['batch']} rows of {work['length']} tokens a step, {work['steps']}"
            f" steps, {len(result['rows'][0]['runs'])} repeats, attention {work['attention']}, {liger},"
            f" on {result['device']}; {versions}",
            "",
            "| | tokens/s, median (range) | MFU | peak memory | loss, first and last step |",
            "|---|---|---|---|---|",
            *(_line(row) for row in result["rows"]),
            "",
            "MFU counts six FLOPs per parameter and token, and causal attention at half.",
        ]
    )


def _line(row: dict[str, Any]) -> str:
    speeds, losses = row["tokens_per_s"], row["runs"][0]["losses"]
    mfu = f"{row['mfu']:.1%}" if row["mfu"] else "peak unknown"
    memory_gb = max(run["memory_gb"] for run in row["runs"])
    speed = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
    return f"| {row['arm']} | {speed} | {mfu} | {memory_gb:.2f} GB | {losses[0]:.4f}, {losses[-1]:.4f} |"


if __name__ == "__main__":
    main()

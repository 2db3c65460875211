"""Measure the cost of a save: DeepSpeed's synchronous save and Shardline's, alternating in one process tree.

    python -m benchmarks.checkpoint [--parameters-m 100] [--repeats 3] [--ranks 2]

The stall is the time that a training step waits. The extra time is the wall time that one save adds to the
training until it is published, including all background work.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.arms.task import cached_in
from benchmarks.harness import Ratio, as_json, at_least, host_precision, run_as_command, spread
from benchmarks.ranks import run_ranks
from train.checkpoint.progress import Progress, Topology
from train.checkpoint.saving import Saver
from train.checkpoint.scope import CheckpointScope
from train.checkpoint.store import CheckpointStore
from train.config import CheckpointConfig, OptimConfig
from train.dist import DistEnv, Group
from train.engine.engine import Engine
from train.faults import NO_FAULTS
from train.model.load import DTYPES
from train.model.optim import build_optimizer
from train.rundir import RunDir

TITLE = "Cost of a save"
NOTES = (
    "DeepSpeed's save neither syncs nor hashes its files; Shardline's does both in the background. With two"
    " cores the training has no core to spare, so the hashing adds to the wall time; with GPU ranks it runs"
    " on idle host cores. On a slower processor without AVX-512 the stall was 0.13 of DeepSpeed's save."
)
HIDDEN, VOCABULARY = 768, 16_384
STEPS_BETWEEN = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--parameters-m", type=at_least(1), default=100, help="size of the model in millions")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--ranks", type=at_least(1), default=2)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start ranks in which both kinds of saves alternate."""
    with tempfile.TemporaryDirectory() as name, cached_in(Path(name)):
        run_ranks(_rank, options.ranks, name, options, log=Path(name) / "ranks.log")
        result: dict[str, Any] = json.loads((Path(name) / "result.json").read_text())
    ratio = Ratio(
        what="stall of a save vs. DeepSpeed's save", value=result["stall_ratio"], sense="at most", target=0.1
    )
    return result | {"ratios": as_json([ratio])}


def _rank(folder: str, options: argparse.Namespace) -> None:
    group = Group(DistEnv.from_environ("cpu"))
    engine = _engine(options.parameters_m, options.ranks)
    result = _measure(group, engine, Path(folder), options.repeats)
    if group.env.is_main:
        (Path(folder) / "result.json").write_text(json.dumps(result | {"ranks": options.ranks}))
    group.close()


def _engine(parameters_m: int, ranks: int) -> Engine:
    """Return the engine of a randomly initialized Llama of about this size, with ZeRO-2 and fused AdamW."""
    import transformers

    per_layer = 4 * HIDDEN**2 + 3 * HIDDEN * 4 * HIDDEN
    layers = max(1, round((parameters_m * 1e6 - VOCABULARY * HIDDEN) / per_layer))
    settings = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=12,
        tie_word_embeddings=True,
        use_cache=False,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=DTYPES[host_precision()])
    config = {
        "train_batch_size": ranks,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 2, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": host_precision() == "bf16"},
        "steps_per_print": 2**31 - 1,
    }
    optimizer = build_optimizer(model, OptimConfig())
    return Engine(model, optimizer, config, causal=True, world_size=ranks)


def _measure(group: Group, engine: Engine, folder: Path, repeats: int) -> dict[str, Any]:
    topology = Topology(world_size=group.env.world_size, zero_stage=2, precision=host_precision())
    run_dir = RunDir(folder / "run")
    if group.env.is_main:
        run_dir.root.mkdir()
    group.barrier()
    store = CheckpointStore(run_dir.checkpoints)
    scope = CheckpointScope(
        run_dir=run_dir, group=group, store=store, topology=topology, attempt=1, faults=NO_FAULTS
    )
    saver = Saver(scope, CheckpointConfig(keep_last=1))
    progress = Progress()
    _steps(group, engine, progress)
    # The first save allocates the buffers and is not counted.
    saver.save(engine, progress)
    saver.join()
    theirs, stalls, calm, disturbed = [], [], [], []
    for number in range(repeats):
        calm.append(_steps(group, engine, progress))
        theirs.append(_deepspeed_save(group, engine, folder / f"theirs_{number}"))
        began = time.perf_counter()
        progress.step += 1
        stalls.append(saver.save(engine, progress))
        _steps(group, engine, progress)
        saver.join()
        group.barrier()
        disturbed.append(time.perf_counter() - began)
    verdict = store.verdicts()[0]
    assert verdict.manifest
    assert verdict.usable, verdict.problem
    parameters = sum(parameter.numel() for parameter in engine.module.parameters())
    copies = sum(group.gather(engine.copy_bytes))
    return {
        "parameters": parameters,
        "precision": host_precision(),
        "deepspeed_save_s": theirs,
        "stall_s": stalls,
        "stall_ratio": statistics.mean(stalls) / statistics.mean(theirs),
        "steps_without_save_s": calm,
        "steps_with_save_s": disturbed,
        "extra_s": statistics.mean(disturbed) - statistics.mean(calm),
        "bytes_per_parameter": verdict.manifest.nbytes / parameters,
        "copy_bytes_per_parameter": copies / parameters,
    }


def _steps(group: Group, engine: Engine, progress: Progress) -> float:
    """Train for some steps and return the seconds."""
    torch.manual_seed(group.env.rank)
    group.barrier()
    began = time.perf_counter()
    for _ in range(STEPS_BETWEEN):
        ids = torch.randint(0, VOCABULARY, (1, 128))
        output = engine.module(input_ids=ids, labels=ids)
        engine.backward(output.loss, 1)
        engine.step(1e-5)
        progress.step += 1
    group.barrier()
    return time.perf_counter() - began


def _deepspeed_save(group: Group, engine: Engine, folder: Path) -> float:
    """Save with DeepSpeed's own writer and return the seconds until all ranks have finished."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    inner = engine._engine
    ours, inner.checkpoint_engine = inner.checkpoint_engine, TorchCheckpointEngine()
    group.barrier()
    began = time.perf_counter()
    inner.save_checkpoint(str(folder), tag="x")
    group.barrier()
    seconds = time.perf_counter() - began
    inner.checkpoint_engine = ours
    if group.env.is_main:
        shutil.rmtree(folder)
    group.barrier()
    return seconds


def table(result: dict[str, Any]) -> str:
    """Return the table of seconds."""

    def row(name: str, values: list[float]) -> str:
        return f"| {name} | {spread(values, 3)} |"

    interval_s = 300.0
    return "\n".join(
        [
            f"{result['parameters'] / 1e6:.0f}M parameters, {result['precision']} Adam, ZeRO-2,"
            f" {result['ranks']} ranks",
            "",
            "| | seconds, median (range) |",
            "|---|---|",
            row("DeepSpeed's save, during which the training waits", result["deepspeed_save_s"]),
            row("stall of Shardline's save", result["stall_s"]),
            row(f"{STEPS_BETWEEN} steps", result["steps_without_save_s"]),
            row(f"{STEPS_BETWEEN} steps and a save until it is published", result["steps_with_save_s"]),
            "",
            f"- extra wall time of a save: {result['extra_s']:.2f} s"
            f" ({100 * result['extra_s'] / interval_s:.2f} % at one save in five minutes)",
            f"- bytes on disk per parameter: {result['bytes_per_parameter']:.3f}",
            f"- bytes of copies in host memory per parameter: {result['copy_bytes_per_parameter']:.3f}",
        ]
    )


if __name__ == "__main__":
    run_as_command(sys.modules[__name__])

"""Training beside others on equal input: our run, a bare DeepSpeed loop, and Hugging Face's Trainer.

    python -m benchmarks.trainer [--stages 1 2 3] [--steps 30] [--repeats 3] [--ranks 2] [--json]

All arms train the same random weights on the same fixed-length sequences in the same order, in bf16, with
one thread a rank, and take turns. Tokens per second are the median over the steps after the first five; the
losses of the last step stand beside them. The Trainer runs with its default optimizer and with fused AdamW;
that it really runs DeepSpeed is asserted.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

LENGTH, PER_RANK, VOCABULARY = 512, 4, 8192
ARMS = ("shardline", "deepspeed", "trainer", "trainer_fused")
_WARM_UP = 5
_TITLES = {
    "shardline": "Shardline",
    "deepspeed": "bare DeepSpeed loop, fused AdamW",
    "trainer": "HF Trainer + DeepSpeed",
    "trainer_fused": "HF Trainer + DeepSpeed, fused AdamW",
}


def main() -> None:
    """Parse; run the arms in turn; print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("ARM", "STAGE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        arm, stage, folder = options.child
        _child(arm, int(stage), Path(folder), options.steps, options.ranks)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder, options.steps * PER_RANK * options.ranks)
        found: dict[str, dict[str, list[dict[str, float]]]] = {}
        for stage in options.stages:
            arms: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
            for _ in range(options.repeats):
                for arm in ARMS:
                    arms[arm].append(_run(arm, stage, folder, options))
            found[f"zero{stage}"] = arms
    result = {
        "ranks": options.ranks,
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "deepspeed", "transformers")},
        "stages": found,
    }
    print(json.dumps(result, indent=2) if options.json else _table(result))


def _prepare(folder: Path, rows: int) -> None:
    """A random model of 9M parameters, and token ids that every arm reads in this order."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=LENGTH,
        pad_token_id=1,
        bos_token_id=None,
        eos_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    torch.save(torch.randint(2, VOCABULARY, (rows, LENGTH)), folder / "ids.pt")


def _run(arm: str, stage: int, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={options.ranks}"]
    command += [f"--master-port={port}", "-m", "benchmarks.trainer", f"--steps={options.steps}"]
    command += [f"--ranks={options.ranks}", "--child", arm, str(stage), str(folder)]
    environ = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arm} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads((folder / "answer.json").read_text())
    return found


def _child(arm: str, stage: int, folder: Path, steps: int, ranks: int) -> None:
    import torch

    torch.set_num_threads(1)
    ids = torch.load(folder / "ids.pt")
    if arm == "shardline":
        times, losses = _shardline(stage, folder, ids, steps, ranks)
    elif arm == "deepspeed":
        times, losses = _deepspeed(stage, folder, ids, steps, ranks)
    else:
        times, losses = _trainer(stage, folder, ids, steps, ranks, fused=arm == "trainer_fused")
    if int(os.environ["RANK"]) == 0:
        tokens = PER_RANK * ranks * LENGTH
        speed = tokens / statistics.median(times[_WARM_UP:])
        (folder / "answer.json").write_text(json.dumps({"tokens_per_s": speed, "loss": losses[-1]}))


def _config(stage: int, ranks: int) -> Any:
    from launcher.compose.run import compose_run

    return compose_run(
        [
            "experiment=smoke",
            f"zero.stage={stage}",
            f"train.micro_batch_size={PER_RANK}",
            f"train.global_batch_size={PER_RANK * ranks}",
            f"data.max_length={LENGTH}",
        ]
    ).config


def _shardline(stage: int, folder: Path, ids: Any, steps: int, ranks: int) -> tuple[list[float], list[float]]:
    """The engine, kernels, collation and step of a run, without its launcher."""
    import datasets

    from train.batch import solve_batch
    from train.data.collate import TokenSet
    from train.dist import DistEnv, Group
    from train.engine import Engine
    from train.kernels.table import Site, choose
    from train.model import load_model
    from train.optim import build_optimizer
    from train.zero import deepspeed_config

    config = _config(stage, ranks)
    batch = solve_batch(global_batch_size=PER_RANK * ranks, micro_batch_size=PER_RANK, world_size=ranks)
    group = Group(DistEnv.from_environ("cpu"))
    rows = ids.tolist()
    entries = {
        "input_ids": rows,
        "labels": rows,
        "tokens": [LENGTH] * len(rows),
        "trained_tokens": [LENGTH - 1] * len(rows),
    }
    token_set = TokenSet(datasets.Dataset.from_dict(entries), pad_id=1, labels_per_token=True)
    site = Site(device="cpu", family="llama", task="causal", installed=lambda _: False)
    kernels = choose(config.kernels.model_dump(exclude={"on_mismatch"}), site)[0]
    deepspeed = deepspeed_config(config, batch, device="cpu")
    model, keep = load_model(folder / "model", config.model, kernels, precision="bf16", deepspeed=deepspeed)
    engine = Engine(model, build_optimizer(model, config.optim), deepspeed, causal=True, world_size=ranks)
    times, losses = [], []
    trained = PER_RANK * ranks * (LENGTH - 1)
    for step in range(steps):
        group.barrier()
        began = time.perf_counter()
        first = step * PER_RANK * ranks + group.env.rank * PER_RANK
        loss_sum = engine.loss_sum(token_set.collate(range(first, first + PER_RANK), group.env.device))
        engine.backward(loss_sum, trained)
        engine.step(1e-3)
        [total] = group.sum([float(loss_sum.detach())])
        times.append(time.perf_counter() - began)
        losses.append(total / trained)
    del keep
    return times, losses


def _deepspeed(stage: int, folder: Path, ids: Any, steps: int, ranks: int) -> tuple[list[float], list[float]]:
    import deepspeed
    import torch
    import transformers

    from train.batch import solve_batch
    from train.zero import deepspeed_config

    batch = solve_batch(global_batch_size=PER_RANK * ranks, micro_batch_size=PER_RANK, world_size=ranks)
    settings = deepspeed_config(_config(stage, ranks), batch, device="cpu")
    deepspeed.init_distributed("gloo")
    keep = transformers.integrations.HfDeepSpeedConfig(settings) if stage == 3 else None
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    rank = int(os.environ["RANK"])
    times, losses = [], []
    for step in range(steps):
        torch.distributed.barrier()
        began = time.perf_counter()
        first = step * PER_RANK * ranks + rank * PER_RANK
        part = ids[first : first + PER_RANK]
        loss = engine(input_ids=part, labels=part, use_cache=False).loss
        engine.backward(loss)
        engine.step()
        mean = loss.detach().float()
        torch.distributed.all_reduce(mean)
        times.append(time.perf_counter() - began)
        losses.append(float(mean) / ranks)
    del keep
    return times, losses


def _trainer(
    stage: int, folder: Path, ids: Any, steps: int, ranks: int, *, fused: bool
) -> tuple[list[float], list[float]]:
    import deepspeed
    import torch
    import transformers

    settings = {
        "train_micro_batch_size_per_gpu": PER_RANK,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": True},
    }
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        bf16=True,
        deepspeed=settings,
        per_device_train_batch_size=PER_RANK,
        max_steps=steps,
        learning_rate=1e-3,
        adam_beta2=0.95,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused" if fused else "adamw_torch",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
    model.config.use_cache = False
    rows = [{"input_ids": row, "labels": row} for row in ids]

    class InOrder(transformers.Trainer):
        """Rows in the order of the other arms."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

    class Watch(transformers.TrainerCallback):
        """The time and the loss of each step."""

        def __init__(self) -> None:
            self.times: list[float] = []
            self.losses: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.distributed.barrier()
            self.began = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(float(logs["loss"]))
                self.times.append(time.perf_counter() - self.began)

    watch = Watch()
    trainer = InOrder(model=model, args=arguments, train_dataset=rows, callbacks=[watch])
    trainer.train()
    assert isinstance(trainer.model_wrapped, deepspeed.DeepSpeedEngine), type(trainer.model_wrapped)
    assert trainer.model_wrapped.zero_optimization_stage() == stage
    if int(os.environ["RANK"]) != 0:
        return [1.0] * steps, [0.0] * steps
    return watch.times, watch.losses


def _table(result: dict[str, Any]) -> str:
    versions = result["versions"]
    lines = [
        f"9M parameters, {LENGTH} tokens x {PER_RANK} a rank, {result['ranks']} ranks on {result['cores']}"
        f" cores over gloo, bf16, torch {versions['torch']}, deepspeed {versions['deepspeed']}, transformers"
        f" {versions['transformers']}; tokens/s are medians over repeats (range)",
        "",
        "| ZeRO | arm | tokens/s | ours / this | last loss |",
        "|---|---|---|---|---|",
    ]
    for stage, arms in result["stages"].items():
        speed = {arm: statistics.median(run["tokens_per_s"] for run in runs) for arm, runs in arms.items()}
        for arm, runs in arms.items():
            speeds = [run["tokens_per_s"] for run in runs]
            ratio = speed["shardline"] / speed[arm]
            lines.append(
                f"| {stage.removeprefix('zero')} | {_TITLES[arm]} | {speed[arm]:.0f}"
                f" ({min(speeds):.0f} to {max(speeds):.0f}) | {ratio:.3f} | {runs[0]['loss']:.4f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

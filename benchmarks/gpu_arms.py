"""The two arms of benchmarks.gpu: the same training by Shardline's engine and by Hugging Face's Trainer.

What is heavy is imported by the process that measures.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from launcher.compose.run import compose_run
from train.batch import BatchPlan, solve_batch
from train.config import ModelConfig, TrainingConfig
from train.kernels.table import Site, choose
from train.zero import deepspeed_config

LEARNING_RATE = 1e-5


@dataclass(frozen=True, slots=False, kw_only=True)
class Work:
    """What both arms do."""

    directory: str
    """A transformers directory with the weights."""
    device: Literal["cpu", "cuda"]
    attention: str
    liger: bool
    length: int
    batch: int
    steps: int
    warm_up: int

    def rows(self) -> torch.Tensor:
        """Tokens of all steps, a sequence in a row; of a few words only, which is soon learned."""
        draw = torch.Generator().manual_seed(0)
        count = (self.warm_up + self.steps) * self.batch
        return torch.randint(256, (count, self.length), generator=draw)


def shardline(work: Work) -> dict[str, Any]:
    """The engine of a run, as `train/rank.py` makes it."""
    from train.data.collate import Batch
    from train.dist import DistEnv, Group
    from train.engine import Engine
    from train.model import load_model
    from train.optim import build_optimizer

    config, batch = _config(work)
    group = Group(DistEnv.from_environ(work.device))
    deepspeed = deepspeed_config(config, batch, device=work.device)
    family = json.loads((Path(work.directory) / "config.json").read_text())["model_type"]
    site = Site(device=work.device, family=family, task="causal", zero_stage=2, installed=_installed)
    wanted = {**config.wanted_kernels, "attention": work.attention}
    kernels, _ = choose(wanted, site)
    directory = Path(work.directory)
    source = ModelConfig(source=f"path:{directory}")
    model, _ = load_model(directory, source, kernels, precision="bf16", deepspeed=deepspeed)
    optimizer = build_optimizer(model, config.optim, kernel=kernels["optimizer"].name)
    engine = Engine(model, optimizer, deepspeed, causal=True, world_size=1)
    marks, losses = [_now(work)], []
    for ids in torch.split(work.rows(), work.batch):
        rows = ids.to(group.env.device)
        trained = work.batch * (work.length - 1)
        loss_sum = engine.loss_sum(Batch(rows, rows, attention_mask_BT=torch.ones_like(rows)))
        engine.backward(loss_sum, trained)
        engine.step(LEARNING_RATE)
        losses.append(float(loss_sum.detach()) / trained)
        marks.append(_now(work))
    group.close()
    engaged = {kernel: choice.name for kernel, choice in kernels.items()}
    return {"seconds": _seconds(work, marks), "losses": losses, "kernels": engaged}


def trainer(work: Work) -> dict[str, Any]:
    """Hugging Face's, with DeepSpeed under it and Liger's kernels in it."""
    import transformers

    config, batch = _config(work)
    with tempfile.TemporaryDirectory() as folder:
        # Before the model is read, as the Trainer's documentation asks for.
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            bf16=True,
            use_cpu=work.device == "cpu",
            deepspeed=deepspeed_config(config, batch, device=work.device),
            use_liger_kernel=work.liger,
            optim="adamw_torch_fused",
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            adam_beta2=config.optim.beta2,
            weight_decay=config.optim.weight_decay,
            max_grad_norm=config.optim.clip_norm,
            per_device_train_batch_size=work.batch,
            max_steps=work.warm_up + work.steps,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            work.directory, dtype=torch.bfloat16, attn_implementation=work.attention
        )
        clock = _clock(work)
        rows = [{"input_ids": ids, "labels": ids} for ids in work.rows()]
        made = transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[clock])
        # It prints every log: the parent reads stdout.
        with contextlib.redirect_stdout(sys.stderr):
            made.train()
        losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    return {"seconds": _seconds(work, clock.marks), "losses": losses, "kernels": None}


ARMS: dict[str, Callable[[Work], dict[str, Any]]] = {"Shardline": shardline, "Trainer": trainer}


def _config(work: Work) -> tuple[TrainingConfig, BatchPlan]:
    """As of a run with `zero=stage2`; schedule and data are the benchmark's own."""
    config = compose_run(
        [
            "experiment=smoke",
            "zero=stage2",
            "train.precision=bf16",
            "optim.warmup_steps=0",
            f"optim.lr={LEARNING_RATE}",
            f"train.global_batch_size={work.batch}",
            f"train.micro_batch_size={work.batch}",
        ]
    ).config
    return config, solve_batch(
        global_batch_size=work.batch, micro_batch_size=work.batch, world_size=int(os.environ["WORLD_SIZE"])
    )


def _clock(work: Work) -> Any:
    import transformers

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        """When the first step began and each one ended."""

        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.marks.append(_now(work))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(_now(work))

    return Clock()


def _seconds(work: Work, marks: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(marks)][work.warm_up :]


def _now(work: Work) -> float:
    if work.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

"""A minimal training loop with DeepSpeed and torch's fused AdamW."""

import os
import time
from dataclasses import replace
from typing import Any

from benchmarks.arms.task import Task, Trace, documents_of, in_order
from benchmarks.ranks import run_ranks
from train.measure.memory import peak_resident_gb
from train.model.load import DTYPES


def train(task: Task) -> Trace:
    """Train the task without saving a checkpoint."""
    run_ranks(_rank, task.ranks, task, log=task.folder / "bare.log")
    return Trace.read(task.folder / "bare.json")


def deepspeed_settings(task: Task) -> dict[str, Any]:
    """Return DeepSpeed's settings for the loop and the Trainers, with Shardline's bucket sizes."""
    bucket = 50_000_000
    return {
        "train_micro_batch_size_per_gpu": task.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {
            "stage": task.stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "overlap_comm": False,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": task.precision == "bf16"},
        "steps_per_print": 2**31 - 1,
    }


def _rank(task: Task) -> None:
    import deepspeed
    import torch
    import transformers

    began_s = time.time()
    rank = int(os.environ["RANK"])
    documents = torch.tensor(in_order(task, documents_of(task, task.train)))
    deepspeed.init_distributed("gloo")
    settings = deepspeed_settings(task)
    keep = transformers.integrations.HfDeepSpeedConfig(settings) if task.stage == 3 else None
    model = transformers.AutoModelForCausalLM.from_pretrained(task.model, dtype=DTYPES[task.precision])
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=task.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    trace = Trace(begun_s=began_s, ends_s=[], losses=[], tokens=[])
    for step in range(task.steps):
        first = (step * task.ranks + rank) * task.micro_batch_size
        batch = documents[first : first + task.micro_batch_size]
        loss = engine(input_ids=batch, labels=batch, use_cache=False).loss
        engine.backward(loss)
        engine.step()
        mean = loss.detach().float()
        torch.distributed.all_reduce(mean)
        trace.losses.append(float(mean) / task.ranks)
        trace.tokens.append(task.ranks * batch.numel())
        trace.ends_s.append(time.time())
    del keep
    if rank == 0:
        replace(trace, peak_gb=peak_resident_gb()).write(task.folder / "bare.json")
    torch.distributed.barrier()

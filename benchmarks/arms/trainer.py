"""Hugging Face's Trainer with DeepSpeed, and TRL's SFTTrainer with packing."""

import time
from pathlib import Path
from typing import Any

from benchmarks.arms.bare import deepspeed_settings
from benchmarks.arms.task import Task, Trace, documents_of, held_out_loss, in_order
from benchmarks.ranks import run_ranks
from train.measure.memory import memory_gb
from train.model.load import DTYPES


def train(task: Task, *, fused: bool, documents_in_order: bool = False) -> Trace:
    """Train with Hugging Face's Trainer.

    Args:
        task: The task; `packed` is not supported.
        fused: Whether to use fused AdamW instead of the Trainer's default optimizer.
        documents_in_order: Whether to take the documents in Shardline's order, for equal batches.
    """
    options = {"optim": "adamw_torch_fused" if fused else "adamw_torch"}
    strategy = {"grouped": "group_by_length", "as they come": "random"}[task.arranged]
    options["train_sampling_strategy"] = "sequential" if documents_in_order else strategy
    run_ranks(_trainer_rank, task.ranks, task, options, documents_in_order, log=task.folder / "trainer.log")
    return Trace.read(task.folder / "trainer.json")


def train_trl(task: Task) -> Trace:
    """Train with TRL's SFTTrainer and best-fit packing, its default; packs are accumulated one by one."""
    import trl  # noqa: F401 - imported before the ranks are forked

    run_ranks(_trl_rank, task.ranks, task, log=task.folder / "trl.log")
    return Trace.read(task.folder / "trl.json")


def save_checkpoint(task: Task) -> Path:
    """Train with fused AdamW, save at the last step and return the checkpoint's folder."""
    options = {"optim": "adamw_torch_fused", "save_strategy": "steps", "save_steps": task.steps}
    run_ranks(_trainer_rank, task.ranks, task, options, False, log=task.folder / "trainer.log")
    return Path(common_arguments(task)["output_dir"]) / f"checkpoint-{task.steps}"


def resume(task: Task, checkpoint: Path) -> Trace:
    """Resume from a checkpoint and train for one step."""
    options = {"optim": "adamw_torch_fused"}
    run_ranks(_trainer_rank, task.ranks, task, options, False, checkpoint, log=task.folder / "trainer.log")
    return Trace.read(task.folder / "trainer.json")


def common_arguments(task: Task) -> dict[str, Any]:
    """Return the TrainingArguments that all Trainers share."""
    return {
        "output_dir": str(task.folder / "out"),
        "use_cpu": task.device == "cpu",
        "use_liger_kernel": task.liger,
        "bf16": task.precision == "bf16",
        "deepspeed": deepspeed_settings(task),
        "per_device_train_batch_size": task.micro_batch_size,
        "max_steps": task.steps,
        "learning_rate": task.lr,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _trainer_rank(
    task: Task, options: dict[str, Any], documents_in_order: bool, checkpoint: Path | None = None
) -> None:
    import transformers

    began_s = time.time()
    documents = documents_of(task, task.train)
    if documents_in_order:
        documents = in_order(task, documents)
    rows = [{"input_ids": ids, "labels": ids} for ids in documents]
    arguments = transformers.TrainingArguments(**common_arguments(task) | options)
    trainer = transformers.Trainer(
        model=_load_model(task),
        args=arguments,
        train_dataset=rows,
        data_collator=transformers.DataCollatorForSeq2Seq(_tokenizer(task)),
    )
    _train(trainer, task, began_s, "trainer.json", checkpoint)


def _trl_rank(task: Task) -> None:
    import datasets
    import trl

    began_s = time.time()
    documents = documents_of(task, task.train)
    each = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": task.micro_batch_size}
    settings = deepspeed_settings(task) | {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": task.micro_batch_size,
    }
    arguments = trl.SFTConfig(
        **common_arguments(task) | each | {"deepspeed": settings},
        optim="adamw_torch_fused",
        packing=True,
        max_length=task.length,
    )
    trainer = trl.SFTTrainer(
        model=_load_model(task),
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"input_ids": documents}),
        processing_class=_tokenizer(task),
    )
    _train(trainer, task, began_s, "trl.json")


def _train(trainer: Any, task: Task, began_s: float, name: str, checkpoint: Path | None = None) -> None:
    """Train and record each step; rank 0 writes the trace.

    Args:
        trainer: The Trainer.
        task: Its task.
        began_s: Time at which this rank started, in seconds since the epoch.
        name: Name of the trace file.
        checkpoint: Checkpoint from which to train for one step; None trains from the start.
    """
    import deepspeed
    import torch

    collate, useful = trainer.data_collator, []

    def counted(rows: list[dict[str, Any]]) -> Any:
        useful.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    watch = _watch(task, stop_after_one=checkpoint is not None)
    trainer.data_collator = counted
    trainer.add_callback(watch)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    engine = trainer.model_wrapped
    assert isinstance(engine, deepspeed.DeepSpeedEngine), type(engine)
    assert engine.zero_optimization_stage() == task.stage
    assert engine.world_size == task.ranks
    steps = len(watch.ends_s)
    accumulation = trainer.args.gradient_accumulation_steps
    tokens = torch.tensor(useful[: steps * accumulation]).view(steps, accumulation).sum(1)
    torch.distributed.all_reduce(tokens)
    if torch.distributed.get_rank() == 0:
        Trace(
            begun_s=began_s,
            ends_s=watch.ends_s,
            losses=watch.losses[:steps],
            tokens=tokens.tolist(),
            held_out_loss=held_out_loss(engine.module, task) if task.stage < 3 else None,
            peak_gb=memory_gb(torch.device(task.device))[1],
        ).write(task.folder / name)
    torch.distributed.barrier()


def _watch(task: Task, *, stop_after_one: bool) -> Any:
    import torch
    import transformers

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        """Records the end and the loss of each step."""

        def __init__(self) -> None:
            self.ends_s: list[float] = []
            self.losses: list[float] = []

        def on_step_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
            if task.device == "cuda":
                torch.cuda.synchronize()
            self.ends_s.append(time.time())
            control.should_training_stop |= stop_after_one

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(logs["loss"])

    return Watch()


def _load_model(task: Task) -> Any:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        task.model, dtype=DTYPES[task.precision], attn_implementation=task.attention
    )
    model.config.use_cache = False
    return model


def _tokenizer(task: Task) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(task.model)

"""Rules about one run: length, format, chat template, labels, precision, warm-up and resources."""

import os
from collections.abc import Iterator
from pathlib import Path

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from launcher.planning.plan import RunPlan, place
from train.families import positions_of
from train.formats.registry import format_named, format_names, formats_with_questions


def has_an_end(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that the length of the run is limited."""
    train = config.train
    if train.max_steps is None and train.epochs is None and train.max_tokens is None:
        yield Problem(
            code="train.length",
            field="train",
            message="no length is set: train.max_steps, train.epochs and train.max_tokens are all null",
            fix="set one of them, or choose an experiment, such as experiment=smoke",
        )


def format_serves_task(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that the data format fits the task, and that sampled answers have questions."""
    row_format = format_named(config.data.format)
    if row_format.task != config.model.task:
        yield Problem(
            code="data.format",
            field="data.format",
            message=f"data.format={config.data.format} does not support model.task={config.model.task}",
            fix=f"set data.format to {' or '.join(format_names(config.model.task))},"
            f" or model.task={row_format.task}",
        )
    held_out = config.data.test is not None or config.cv.fold is not None
    if config.eval.num_samples and not (row_format.question and held_out):
        formats = " or ".join(formats_with_questions())
        yield Problem(
            code="eval.num_samples",
            field="eval.num_samples",
            message=f"eval.num_samples={config.eval.num_samples} needs data.test or a held-out fold, and"
            f" data.format={formats}",
            fix="set data.test or cv.fold, or set eval.num_samples=0",
        )


def patience_has_validations(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that early stopping has validation rows and an interval between validations."""
    if config.eval.patience is None:
        return
    for field, value, fix in (
        ("data.validation", config.data.validation, "set data.validation to a file of validation rows"),
        (
            "eval.every_steps",
            config.eval.every_steps,
            "set eval.every_steps to the number of steps between validations",
        ),
    ):
        if value is None:
            yield Problem(
                code="eval.patience",
                field=field,
                message=f"eval.patience={config.eval.patience} needs validations, but {field} is null",
                fix=f"{fix}, or set eval.patience=null",
            )


def chat_template_exists(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that chats have a template, from a file or from the tokenizer."""
    template = config.model.chat_template
    if template is not None and not Path(template).is_file():
        yield Problem(
            code="model.chat_template",
            field="model.chat_template",
            message=f"no such file: {template}",
            fix="set model.chat_template to a Jinja file, or to null for the tokenizer's own template",
        )
    needed = format_named(config.data.format).uses_chat_template and template is None
    if needed and facts.model and not facts.model.has_chat_template:
        yield Problem(
            code="model.chat_template",
            field="model.chat_template",
            message=f"data.format={config.data.format} needs a chat template, but the tokenizer of"
            f" {config.model.source} has none",
            fix="set model.chat_template to a Jinja file, such as '${examples:templates/plain.jinja}'",
        )


def has_two_labels(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that a classifier has at least two classes."""
    labelled = format_named(config.data.format).label is not None
    if labelled and "train" in facts.data and len(facts.labels) == 1:
        yield Problem(
            code="data.label",
            field="data.train",
            message=f"all training rows have the label {facts.labels[0]!r}; at least two labels are needed",
            fix=f"add rows with other labels to {config.data.train}",
        )


def runs_dir_is_writable(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that the user can write to the folder of runs."""
    place = facts.runs_place
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Problem(
            code="runs_dir.write",
            field="runs_dir",
            message=f"cannot create {config.runs_dir}: no write permission for {place}",
            fix="set runs_dir or SHARDLINE_RUNS to a folder that you can write to",
        )


def zero_and_precision_agree(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that offload fits the ZeRO stage, and fp16 the device."""
    zero = config.zero
    if zero.offload_params and zero.stage != 3:
        yield Problem(
            code="zero.offload",
            field="zero.offload_params",
            message=f"zero.offload_params=true needs zero.stage=3 (found: zero.stage={zero.stage})",
            fix="set zero.stage=3, or zero.offload_params=false",
        )
    if zero.offload_optimizer and zero.stage == 0:
        yield Problem(
            code="zero.offload",
            field="zero.offload_optimizer",
            message="zero.offload_optimizer=true needs zero.stage=1, 2 or 3 (found: zero.stage=0)",
            fix="set zero.stage=1, or zero.offload_optimizer=false",
        )
    if config.train.precision == "fp16" and place(config, facts).device == "cpu":
        yield Problem(
            code="train.precision",
            field="train.precision",
            message="train.precision=fp16 needs a GPU, but the device is cpu",
            fix="set train.precision=bf16 or train.precision=fp32",
        )


def sequence_fits_positions(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that sequences are not longer than the number of positions of the model."""
    positions = positions_of(facts.model.config) if facts.model else None
    if positions and config.data.max_length > positions:
        yield Problem(
            code="data.max_length",
            field="data.max_length",
            message=f"data.max_length={config.data.max_length} exceeds the model's {positions} positions",
            fix=f"set data.max_length={positions} or less",
        )


def warm_up_fits(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Check that warm-up is not longer than the run."""
    steps = plan.time.total_steps
    if steps is not None and config.optim.warmup_steps > steps:
        yield Problem(
            code="optim.warmup",
            field="optim.warmup_steps",
            message=f"optim.warmup_steps={config.optim.warmup_steps} exceeds the {steps} steps of the run",
            fix=f"set optim.warmup_steps={steps} or less",
        )


def profile_steps_fit(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Check that the steps to profile are steps of the run."""
    if config.train.profile_steps is None:
        return
    first, last = config.train.profile_steps
    total = plan.time.total_steps
    if first > last:
        yield Problem(
            code="train.profile_steps",
            field="train.profile_steps",
            message=f"invalid train.profile_steps=[{first},{last}]: the first step is after the last",
            fix=f"set train.profile_steps=[{last},{first}]",
        )
    elif total is not None and last > total:
        yield Problem(
            code="train.profile_steps",
            field="train.profile_steps",
            message=f"train.profile_steps=[{first},{last}] exceeds the {total} steps of the run",
            fix=f"choose steps from 1 to {total}, or set train.profile_steps=null",
        )


def resources_fit(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Check that the memory of ranks and nodes and the disk space are sufficient."""
    memory, limit = plan.memory, plan.memory_limit_gb
    if memory and limit and memory.total_gb > limit:
        yield Problem(
            code="memory.fit",
            field="hardware",
            message=f"a rank needs about {memory.total_gb:.1f} GB and has {limit:.1f} GB"
            f" (weights {memory.weights_gb:.1f}, gradients {memory.gradients_gb:.1f}, optimizer"
            f" {memory.optimizer_gb:.1f}, activations {memory.activations_gb:.1f},"
            f" logits {memory.logits_gb:.1f})",
            fix="raise zero.stage, enable zero.offload_optimizer, lower train.micro_batch_size or"
            " data.max_length, set model.activation_checkpointing=selective or full, or use more GPUs",
        )
    host = config.hardware.node_mem_gb
    ranks = plan.placement.ranks_per_node
    if memory and host and plan.placement.device == "cuda" and memory.host_gb * ranks > host:
        yield Problem(
            code="memory.host",
            field="hardware.node_mem_gb",
            message=f"offload and saving need {memory.host_gb:.1f} GB of host memory per rank: {ranks} ranks"
            f" need {memory.host_gb * ranks:.1f} GB, but a node has {host:.1f} GB",
            fix="raise hardware.nodes, or set zero.offload_optimizer=false or zero.offload_params=false",
        )
    disk = plan.disk
    if disk and disk.total_gb > disk.free_gb:
        yield Problem(
            code="disk.fit",
            field="runs_dir",
            message=f"the run directory needs about {disk.total_gb:.1f} GB, but {config.runs_dir} has only"
            f" {disk.free_gb:.1f} GB free",
            fix="set runs_dir to a larger file system, or lower checkpoint.keep_last",
        )

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
    """Something must limit the length of the run."""
    train = config.train
    if train.max_steps is None and train.epochs is None and train.max_tokens is None:
        yield Problem(
            code="train.length",
            field="train",
            message="the run has no end: train.max_steps, train.epochs and train.max_tokens are all null",
            fix="set one of them, or choose an experiment, such as experiment=smoke",
        )


def format_serves_task(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """The data format must fit the task, and sampled answers need questions."""
    row_format = format_named(config.data.format)
    if row_format.task != config.model.task:
        yield Problem(
            code="data.format",
            field="data.format",
            message=f"data.format={config.data.format} does not serve model.task={config.model.task}",
            fix=f"set data.format to {' or '.join(format_names(config.model.task))},"
            f" or model.task={row_format.task}",
        )
    held_out = config.data.test is not None or config.cv.fold is not None
    if config.eval.num_samples and not (row_format.question and held_out):
        formats = " or ".join(formats_with_questions())
        yield Problem(
            code="eval.num_samples",
            field="eval.num_samples",
            message=f"eval.num_samples needs data.test or a held-out fold, in the format {formats}",
            fix="set data.test or cv.fold, or eval.num_samples=0",
        )


def patience_has_validations(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Early stopping needs validation rows and an interval between validations."""
    if config.eval.patience is None:
        return
    for field, value, fix in (
        ("data.validation", config.data.validation, "name a file of validation rows"),
        ("eval.every_steps", config.eval.every_steps, "say how many steps lie between two validations"),
    ):
        if value is None:
            yield Problem(
                code="eval.patience",
                field=field,
                message=f"eval.patience={config.eval.patience} counts validations, and {field} is null",
                fix=f"{fix}, or set eval.patience=null",
            )


def chat_template_exists(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Chats need a template: a file, or one that comes with the tokenizer."""
    template = config.model.chat_template
    if template is not None and not Path(template).is_file():
        yield Problem(
            code="model.chat_template",
            field="model.chat_template",
            message=f"there is no file {template}",
            fix="name a Jinja file, or null for the tokenizer's own template",
        )
    needed = format_named(config.data.format).uses_chat_template and template is None
    if needed and facts.model and not facts.model.has_chat_template:
        yield Problem(
            code="model.chat_template",
            field="model.chat_template",
            message=f"the tokenizer of {config.model.source} has no chat template for"
            f" data.format={config.data.format}",
            fix="set model.chat_template to a Jinja file, such as '${examples:templates/plain.jinja}'",
        )


def has_two_labels(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A classifier needs at least two classes."""
    labelled = format_named(config.data.format).label is not None
    if labelled and "train" in facts.data and len(facts.labels) == 1:
        yield Problem(
            code="data.label",
            field="data.train",
            message=f"all training rows have the label {facts.labels[0]!r}; classification needs two",
            fix="mend the labels",
        )


def runs_dir_is_writable(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The user must be able to write to the folder that holds runs."""
    place = facts.runs_place
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Problem(
            code="runs_dir.write",
            field="runs_dir",
            message=f"{config.runs_dir} cannot be made: you may not write to {place}",
            fix="set runs_dir or SHARDLINE_RUNS to a folder of yours",
        )


def zero_and_precision_agree(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Offload depends on the ZeRO stage, fp16 on the device."""
    zero = config.zero
    if zero.offload_params and zero.stage != 3:
        yield Problem(
            code="zero.offload",
            field="zero.offload_params",
            message=f"parameters can be offloaded at stage 3 only (zero.stage={zero.stage})",
            fix="set zero.stage=3",
        )
    if zero.offload_optimizer and zero.stage == 0:
        yield Problem(
            code="zero.offload",
            field="zero.offload_optimizer",
            message="optimizer states can be offloaded at stages 1 to 3 (zero.stage=0)",
            fix="set zero.stage=1",
        )
    if config.train.precision == "fp16" and place(config, facts).device == "cpu":
        yield Problem(
            code="train.precision",
            field="train.precision",
            message="fp16 trains on GPUs only",
            fix="use train.precision=bf16 or fp32",
        )


def sequence_fits_positions(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Sequences must not be longer than the positions of the model."""
    positions = positions_of(facts.model.config) if facts.model else None
    if positions and config.data.max_length > positions:
        yield Problem(
            code="data.max_length",
            field="data.max_length",
            message=f"data.max_length={config.data.max_length}, and the model has {positions} positions",
            fix=f"set data.max_length={positions} or less",
        )


def warm_up_fits(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Warm-up must not be longer than the run."""
    steps = plan.time.total_steps
    if steps is not None and config.optim.warmup_steps > steps:
        yield Problem(
            code="optim.warmup",
            field="optim.warmup_steps",
            message=f"warm-up takes {config.optim.warmup_steps} steps, the run only {steps}",
            fix="set optim.warmup_steps lower",
        )


def profile_steps_fit(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Steps to profile must be steps of the run."""
    if config.train.profile_steps is None:
        return
    first, last = config.train.profile_steps
    total = plan.time.total_steps
    if first > last:
        yield Problem(
            code="train.profile_steps",
            field="train.profile_steps",
            message=f"the first step to profile, {first}, comes after the last, {last}",
            fix=f"set train.profile_steps=[{last},{first}]",
        )
    elif total is not None and last > total:
        yield Problem(
            code="train.profile_steps",
            field="train.profile_steps",
            message=f"train.profile_steps=[{first},{last}] lies beyond the run, which has {total} steps",
            fix=f"name steps from 1 to {total}, or null",
        )


def resources_fit(config: RunConfig, plan: RunPlan) -> Iterator[Problem]:
    """Memory of ranks and nodes, and disk space, must suffice."""
    memory, limit = plan.memory, plan.memory_limit_gb
    if memory and limit and memory.total_gb > limit:
        yield Problem(
            code="memory.fit",
            field="hardware",
            message=f"a rank needs about {memory.total_gb:.1f} GB and has {limit:.1f} GB"
            f" (weights {memory.weights_gb:.1f}, gradients {memory.gradients_gb:.1f}, optimizer"
            f" {memory.optimizer_gb:.1f}, activations {memory.activations_gb:.1f},"
            f" logits {memory.logits_gb:.1f})",
            fix="a higher zero.stage, offload, a smaller train.micro_batch_size or data.max_length,"
            " model.activation_checkpointing=selective or full, or more GPUs",
        )
    host = config.hardware.node_mem_gb
    ranks = plan.placement.ranks_per_node
    if memory and host and plan.placement.device == "cuda" and memory.host_gb * ranks > host:
        yield Problem(
            code="memory.host",
            field="hardware.node_mem_gb",
            message=f"offload and the copy for saving put {memory.host_gb:.1f} GB a rank on the host: {ranks}"
            f" ranks need {memory.host_gb * ranks:.1f} GB, a node has {host:.1f} GB",
            fix="more nodes, or offload less",
        )
    disk = plan.disk
    if disk and disk.total_gb > disk.free_gb:
        yield Problem(
            code="disk.fit",
            field="runs_dir",
            message=f"the run directory grows to about {disk.total_gb:.1f} GB,"
            f" {config.runs_dir} has {disk.free_gb:.1f} GB free",
            fix="set runs_dir to a larger file system, or checkpoint.keep_last lower",
        )

"""Rules for how rows become sequences, and for the attention that reads them."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.facts import FLASH_ATTENTION, Facts
from launcher.plan import place
from train.sources import PACKABLE_TYPES

_INSTEAD = "set data.packing=false; data.group_by_length=true saves most of the padding"


def packs_exactly(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Packing is for decoders that are known to keep documents apart."""
    if not config.data.packing:
        return
    if config.model.task == "classification":
        yield Problem(
            code="data.packing",
            field="data.packing",
            message="data.packing=true packs what decoders read; a classifier has one label per sequence",
            fix=_INSTEAD,
        )
    elif facts.model and (name := facts.model.config.get("model_type")) not in PACKABLE_TYPES:
        yield Problem(
            code="data.packing",
            field="data.packing",
            message=f"{config.model.source} is a {name} model, which is not known to keep packed documents"
            f" apart (known: {', '.join(PACKABLE_TYPES)})",
            fix=_INSTEAD,
        )
    if config.data.group_by_length:
        yield Problem(
            code="data.group_by_length",
            field="data.group_by_length",
            message="data.group_by_length=true sorts sequences by length, and packs are all equally full",
            fix="choose one of data.packing and data.group_by_length",
        )


def splits_text_only(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """A part of a labelled text may not be what the label speaks of."""
    if config.data.overlong == "split" and config.model.task == "classification":
        yield Problem(
            code="data.overlong",
            field="data.overlong",
            message="data.overlong=split makes several documents of a row; a label belongs to the whole row",
            fix="set data.overlong=cut or drop",
        )


def attends(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Flash attention needs a GPU, 16-bit numbers and its package."""
    if config.model.attention != "flash_attention_2":
        return
    if place(config, facts).device == "cpu":
        yield _no_flash("it runs on GPUs, and this run is on CPUs", "set model.attention=sdpa")
    if config.train.precision == "fp32":
        yield _no_flash("it computes in bf16 or fp16 (train.precision=fp32)", "set train.precision=bf16")
    environment = config.slurm.environment
    # What other environments hold is seen on the nodes.
    here = config.slurm.executor == "local" or (environment.kind == "venv" and environment.path is None)
    if here and FLASH_ATTENTION not in facts.packages:
        yield _no_flash(
            f"the package flash-attn is not installed for {facts.python}",
            "pip install flash-attn, or set model.attention=sdpa",
        )


def _no_flash(reason: str, fix: str) -> Problem:
    return Problem(
        code="model.attention",
        field="model.attention",
        message=f"model.attention=flash_attention_2 cannot be used: {reason}",
        fix=fix,
    )

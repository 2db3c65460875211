"""Rules about turning rows into sequences: packing, grouping and splitting."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from train.families import packable_types

_INSTEAD = "set data.packing=false; data.group_by_length=true also saves most of the padding"


def packs_exactly(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that the model is a decoder that is known to separate packed documents."""
    if not config.data.packing:
        return
    if config.model.task == "classification":
        yield Problem(
            code="data.packing",
            field="data.packing",
            message="data.packing=true needs model.task=causal: a classifier has one label per sequence",
            fix=_INSTEAD,
        )
    elif facts.model and (name := facts.model.config.get("model_type")) not in packable_types():
        yield Problem(
            code="data.packing",
            field="data.packing",
            message=f"data.packing=true does not support model type {name!r} of {config.model.source}"
            f" (supported: {', '.join(packable_types())})",
            fix=_INSTEAD,
        )
    if config.data.group_by_length:
        yield Problem(
            code="data.group_by_length",
            field="data.group_by_length",
            message="data.group_by_length=true has no effect with data.packing=true: packed sequences have"
            " equal lengths",
            fix="set data.group_by_length=false or data.packing=false",
        )


def splits_text_only(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that labelled rows are not split: the label may not apply to each part."""
    if config.data.overlong == "split" and config.model.task == "classification":
        yield Problem(
            code="data.overlong",
            field="data.overlong",
            message="data.overlong=split cannot be used with model.task=classification: a label belongs to"
            " the whole row",
            fix="set data.overlong=truncate or data.overlong=drop",
        )

"""Rules for how rows become sequences."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from train.families import packable_types

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
    elif facts.model and (name := facts.model.config.get("model_type")) not in packable_types():
        yield Problem(
            code="data.packing",
            field="data.packing",
            message=f"{config.model.source} is a {name} model, which is not known to keep packed documents"
            f" apart (known: {', '.join(packable_types())})",
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
            fix="set data.overlong=truncate or drop",
        )

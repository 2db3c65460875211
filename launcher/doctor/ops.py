"""The doctor's part about DeepSpeed's C++ kernels: are they built, and building them."""

import time
from collections.abc import Callable, Iterator

from launcher.doctor.machine import Finding
from launcher.planning.facts.machine import count_gpus
from train.kernels.ops import OPS, build_in_child, built_file, why_not_buildable

_TOPIC = "C++ kernels"


def ops_of_this_machine() -> list[str]:
    """What the kernel table can need here."""
    return [name for name, op in OPS.items() if op.device == "cpu" or count_gpus()]


def check_ops() -> Iterator[Finding]:
    """Whether each is built, or could be."""
    for op in ops_of_this_machine():
        if path := built_file(op):
            yield Finding(level="good", topic=_TOPIC, text=f"{op} is built ({path})")
        elif obstacle := why_not_buildable(op):
            yield Finding(level="note", topic=_TOPIC, text=f"{op} {obstacle}")
        else:
            text = (
                f"{op} is not built; the first run that names it does, or now: shardline doctor --build-ops"
            )
            yield Finding(level="note", topic=_TOPIC, text=text)


def build_ops(report_progress: Callable[[str], None]) -> list[Finding]:
    """Build what is not built yet, one after the other.

    Args:
        report_progress: Told what is being built, before it is.
    """
    findings = []
    for op in ops_of_this_machine():
        if path := built_file(op):
            findings.append(Finding(level="good", topic=_TOPIC, text=f"{op} is built ({path})"))
            continue
        report_progress(f"building {op}; it takes a minute or two")
        began = time.monotonic()
        stderr = build_in_child(op)
        if stderr is None:
            text = f"{op} was built in {time.monotonic() - began:.0f} s ({built_file(op)})"
            findings.append(Finding(level="good", topic=_TOPIC, text=text))
        else:
            findings.append(
                Finding(level="wrong", topic=_TOPIC, text=f"{op} could not be compiled: {stderr}")
            )
    return findings

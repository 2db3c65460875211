"""Checks and builds DeepSpeed's C++ kernels."""

import time
from collections.abc import Callable, Iterator

from launcher.doctor.machine import Finding
from launcher.planning.facts.machine import count_gpus
from train.kernels.ops import OPS, build_in_child, built_file, why_not_buildable

_TOPIC = "C++ kernels"


def ops_of_this_machine() -> list[str]:
    """Return the ops that the kernel table can use on this machine."""
    return [name for name, op in OPS.items() if op.device == "cpu" or count_gpus()]


def check_ops() -> Iterator[Finding]:
    """Check whether each op is built or can be built."""
    for op in ops_of_this_machine():
        if path := built_file(op):
            yield Finding(level="good", topic=_TOPIC, text=f"{op} is built ({path})")
        elif obstacle := why_not_buildable(op):
            yield Finding(level="note", topic=_TOPIC, text=f"{op} {obstacle}")
        else:
            text = f"{op} is not built; the first run that uses it does, or run: shardline doctor --build-ops"
            yield Finding(level="note", topic=_TOPIC, text=text)


def build_ops(report_progress: Callable[[str], None]) -> list[Finding]:
    """Build the missing ops one after the other.

    Args:
        report_progress: Called with a line of text before each build.
    """
    findings = []
    for op in ops_of_this_machine():
        if path := built_file(op):
            findings.append(Finding(level="good", topic=_TOPIC, text=f"{op} is built ({path})"))
            continue
        report_progress(f"building {op}; this takes a minute or two")
        began = time.monotonic()
        stderr = build_in_child(op)
        if stderr is None:
            text = f"{op} was built in {time.monotonic() - began:.0f} s ({built_file(op)})"
            findings.append(Finding(level="good", topic=_TOPIC, text=text))
        else:
            findings.append(Finding(level="wrong", topic=_TOPIC, text=f"could not compile {op}: {stderr}"))
    return findings

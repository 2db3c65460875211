"""Text that several pages and tables share."""

from collections.abc import Mapping
from typing import Any

_OVERLONG = {
    "truncate": "were cut",
    "cut": "were cut",
    "split": "were split",
    "drop": "were left out",
}
"""What was done with rows that were too long; `cut` is the former name of `truncate`."""


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def short_notice(row: Mapping[str, Any]) -> str:
    """The warning that a stop may come too late."""
    return (
        f"a step and a save take {row['needed_s']} s, and a stop is announced {row['notice_s']} s before:"
        " raise slurm.signal_delay_s"
    )


def about_the_compilation(row: Mapping[str, Any]) -> str:
    """What torch.compile made of the layers, up to a step."""
    breaks = [f"{reason} ({count} x)" for reason, count in row["graph_breaks"].items()]
    left = [f"{reason} ({count} x)" for reason, count in row["left_to_python"].items()]
    return (
        f"{row['layers']} layers compiled by step {row['step']} in {row['seconds']:.1f} s, as"
        f" {row['graphs']} graphs"
        + (f"; graph breaks: {', '.join(breaks)}" if breaks else ", without a graph break")
        + (f"; left to Python: {', '.join(left)}" if left else "")
    )


def about_the_data(report: Mapping[str, Any] | None) -> str | None:
    """What became of the rows, from the result or the journal; None if each is simply one whole sequence."""
    if report is None:
        return None
    done = _OVERLONG[report["overlong"]]
    parts = [
        f"{report['overlong_rows']} of {report['rows']} training rows were too long and {done}"
        if report["overlong_rows"]
        else "",
        f"{report['documents']} documents in {report['sequences']} packs, {report['fill']:.1%} full"
        if report["fill"] is not None
        else "",
    ]
    return "; ".join(part for part in parts if part) + "." if any(parts) else None

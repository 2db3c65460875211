"""The tiers of tests, how they share out the workers of pytest-xdist, and how long each of them took."""

from collections import defaultdict
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent
SLOWEST_FIRST = (
    "cluster",
    "test_readme.py",
    "multiprocess/test_sweep.py",
    "multiprocess/test_lifecycle.py",
    "multiprocess/test_save_faults.py",
    "multiprocess/test_rehearse.py",
    "multiprocess/test_storm.py",
    "multiprocess",
    "launcher/report",
    "test_packaging.py",
    "train/kernels",
)
"""Files and folders of `tests` that would leave a worker idle if they came last."""


def tier_of(path: Path) -> str:
    """The tier of a test file: cluster, multiprocess, gpu, or unit for all others."""
    folder = path.relative_to(_ROOT).parts[0]
    return folder if folder in ("cluster", "multiprocess", "gpu") else "unit"


def share_out(items: list[pytest.Item]) -> None:
    """Order tests by how long they take, and keep those together that share fixtures.

    A file's tests stay on one worker (`--dist loadgroup`); those of the cluster do so together, since it is
    brought up once.
    """
    for item in items:
        tier = tier_of(item.path)
        group = tier if tier == "cluster" else str(item.path.relative_to(_ROOT))
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _rank(item.path.relative_to(_ROOT)))


def _rank(path: Path) -> int:
    return next(
        (rank for rank, name in enumerate(SLOWEST_FIRST) if path.is_relative_to(name)), len(SLOWEST_FIRST)
    )


def seconds_by_tier(reports: list[pytest.TestReport]) -> dict[str, tuple[int, float]]:
    """For each tier, how many tests ran and how long they took, with their fixtures, added up."""
    tests: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        tier = tier_of(_ROOT.parent / report.fspath)
        tests[tier] += report.when == "call"
        seconds[tier] += report.duration
    return {tier: (tests[tier], seconds[tier]) for tier in sorted(seconds)}

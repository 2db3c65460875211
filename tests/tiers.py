"""The tiers of tests, how they share out the workers of pytest-xdist, and how long each of them took."""

from collections import defaultdict
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

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


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests by how long the tests of their file or folder take."""
    items.sort(key=lambda item: _rank(item.path.relative_to(_ROOT)))


class TierScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Runs the tests of a file on one worker, and all tests of the cluster on one, which starts it once."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "cluster" if tier_of(_ROOT.parent / path) == "cluster" else path


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

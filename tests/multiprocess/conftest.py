"""Every test here starts real ranks, so all of them carry the tier's mark."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.multiprocess)


@pytest.fixture(scope="module")
def module_runs(tmp_path_factory: pytest.TempPathFactory):
    """A root of runs that the tests of one module share."""
    return tmp_path_factory.mktemp("runs")

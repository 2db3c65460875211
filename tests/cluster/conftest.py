"""A real Slurm for the tests of this tier: brought up once a session, and gone after it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.devcluster.cluster import down, up
from slurm.devcluster.daemons import processes_of
from slurm.devcluster.layout import ClusterLayout
from slurm.devcluster.packages import MissingProgramsError
from tests.cluster.slurm import settings_for
from tests.multiprocess.driven import DrivenRun, finish


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


def bring_up(*, accounting: bool) -> Iterator[ClusterLayout]:
    """A cluster for as long as the caller needs it; afterwards nothing of it is left."""
    # pytest's own folders are too deep for Unix sockets.
    root = Path(tempfile.mkdtemp(prefix="shardline-", dir="/tmp")).resolve()
    shutil.rmtree(root)
    try:
        layout = up(root, nodes=4, accounting=accounting, report_progress=lambda _: None)
    except MissingProgramsError as error:
        pytest.skip(f"NO CLUSTER TESTS WERE RUN: {error}")
    outside = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(layout.slurm_conf)
    try:
        yield layout
    finally:
        if outside is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = outside
        assert down(root)
        assert not processes_of(root), "something of the cluster still runs"
        assert not root.exists()


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterLayout]:
    yield from bring_up(accounting=True)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return settings_for(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def unbroken(settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> DrivenRun:
    """The same training on this machine, with nothing in its way: what every broken run must equal."""
    return finish(*settings, "slurm=local", "name=unbroken", f"runs_dir={tmp_path_factory.mktemp('runs')}")

"""model.compile: the same losses, what was compiled is told, and a resume goes on as if nothing had been."""

import os
from pathlib import Path

import pytest

from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, traced_settings
from train.machine.toolchain import compiler_obstacle

pytestmark = pytest.mark.skipif(
    compiler_obstacle() is not None, reason=f"layers cannot be compiled here: {compiler_obstacle()}"
)
STEPS = 30


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """One rank, as each compiles for itself, and no dropout: compiled code draws other numbers."""
    rows = tmp_path_factory.mktemp("rows")
    return (*traced_settings(rows, STEPS), "zero=stage2", "model.dropout=0", "hardware.gpus_per_node=1")


@pytest.fixture(scope="module")
def compiled(settings: tuple[str, ...], module_runs: Path) -> Run:
    """A compiled run that nothing interrupts."""
    return finish(*settings, "model.compile=true", f"runs_dir={module_runs}")


def test_losses_are_those_of_the_uncompiled_run(settings: tuple[str, ...], compiled: Run):
    run = finish(*settings)
    assert compiled.losses() == pytest.approx(run.losses(), rel=1e-4)
    assert compiled.trace() == run.trace()
    assert "compiled" in compiled.kinds()
    assert "compiled" not in run.kinds()


def test_graphs_and_breaks_are_told_and_no_length_compiles_anew(compiled: Run):
    told = [row for row in compiled.events if row["event"] == "compiled"]
    assert told[0]["step"] == 1
    last = told[-1]
    assert (last["layers"], last["graph_breaks"], last["left_to_python"]) == (2, {}, {})
    assert last["graphs"] <= 2, "one with padding and one without serve every length"
    assert last["seconds"] > 0
    assert "compiled 2 layers by step 1" in compiled.logs()
    assert any((Path(os.environ["SHARDLINE_CACHE"]) / "compiled").iterdir()), "the cache is the shared one"


def test_a_resumed_compiled_run_is_the_unbroken_one(settings: tuple[str, ...], compiled: Run):
    run = start(*settings, "model.compile=true", until=10)
    run.stopped()
    run.go_on()
    assert [row["attempt"] for row in run.events if row["event"] == "resumed"] == [2]
    assert run.curve() == compiled.curve()
    assert run.trace() == compiled.trace()

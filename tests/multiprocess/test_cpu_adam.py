"""DeepSpeed's AdamW for offloaded states: compiled, trained with, resumed and dealt out anew."""

from pathlib import Path

import pytest
import torch

from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import Run, command, traced_settings
from train.kernels.check import Heads, mismatches
from train.kernels.ops import build_in_child, why_not_buildable
from train.kernels.table import KernelChoice

pytestmark = pytest.mark.skipif(
    why_not_buildable("cpu_adam") is not None, reason=f"cpu_adam {why_not_buildable('cpu_adam')}"
)
STEPS = 40
NAMED = "kernels.optimizer=cpu_adam"


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    assert build_in_child("cpu_adam") is None
    more = ("zero=stage2-offload", "train.micro_batch_size=2", "model.dropout=0.0", "optim.weight_decay=0.1")
    return (*traced_settings(module_runs, STEPS), *more)


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> Run:
    return finish(*settings, NAMED, "name=unbroken", f"runs_dir={module_runs}")


@pytest.fixture(scope="module")
def by_torch(settings: tuple[str, ...], module_runs: Path) -> Run:
    return finish(*settings, "name=by-torch", f"runs_dir={module_runs}")


def test_it_agrees_with_the_loop(settings: tuple[str, ...]):
    choice = {"optimizer": KernelChoice(name="cpu_adam", why="")}
    heads = Heads(queries=1, keys=1, size=8, causal=True)
    assert mismatches(choice, torch.device("cpu"), torch.bfloat16, heads) == {}


def test_it_trains_as_torchs_does(unbroken: Run, by_torch: Run):
    assert unbroken.losses() == pytest.approx(by_torch.losses(), abs=1e-4)
    engaged = [
        next(row for row in run.events if row["event"] == "kernels")["engaged"]["optimizer"]["name"]
        for run in (unbroken, by_torch)
    ]
    assert engaged == ["cpu_adam", "fused"]


def test_a_resume_continues_exactly_and_others_go_on_with_its_states(
    settings: tuple[str, ...], unbroken: Run
):
    """To torch's AdamW, and back from it on another number of ranks at another stage."""
    run = start(*settings, NAMED, "name=stopped", until=10)
    run.stopped()
    run.go_on(until=20)
    assert run.curve() == unbroken.curve()[: run.status.step]
    run.go_on("kernels.optimizer=fused", until=30)
    run.go_on(NAMED, "hardware.gpus_per_node=1", "zero=stage3-offload")
    assert [row["world_size"] for row in run.events if row["event"] == "started"] == [2, 2, 2, 1]
    assert run.losses() == pytest.approx(unbroken.losses(), abs=1e-4)


def test_a_run_whose_kernel_does_not_compile_ends_with_the_compilers_words(
    settings: tuple[str, ...], tmp_path: Path
):
    """The plan finds a compiler; only the build shows that it is of no use."""
    broken = tmp_path / "broken-c++"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *-c*) echo cannot compile today >&2; exit 1;; esac\nexec c++ "$@"\n'
    )
    broken.chmod(0o700)
    empty = str(tmp_path / "cache")
    done = command("submit", *settings, NAMED, "--follow", CXX=str(broken), SHARDLINE_CACHE=empty)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "cpu_adam could not be compiled" in done.stdout + done.stderr
    assert "cannot compile today" in done.stdout + done.stderr

"""Other numbers of ranks, other ZeRO stages, other settings: the same run goes on."""

from pathlib import Path

import pytest

from tests.multiprocess.driven import DrivenRun, finish, start
from tests.multiprocess.runs import Run, call, traced_settings

STEPS = 60


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    """Without dropout: its mask depends on which rank has which row."""
    more = ("train.micro_batch_size=2", "checkpoint.every_steps=50", "model.dropout=0.0")
    return (*traced_settings(module_runs, STEPS), *more)


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> DrivenRun:
    return finish(*settings, "zero=stage1", "name=unbroken", f"runs_dir={module_runs}")


def same(run: Run, unbroken: Run) -> None:
    assert run.status.state == "COMPLETED"
    assert run.trace() == unbroken.trace()
    assert [(step, lr) for step, lr, _ in run.curve()] == [(step, lr) for step, lr, _ in unbroken.curve()]
    assert run.losses() == pytest.approx(unbroken.losses(), abs=1e-5)


def test_other_ranks_and_other_stages(settings: tuple[str, ...], unbroken: Run):
    """2, 1, 4, 2, 1 ranks; ZeRO 1, 2, 3, 0, 3: up and down, to and from each."""
    run = start(*settings, "zero=stage1", "name=shapes", until=10)
    run.stopped()
    run.go_on("hardware.gpus_per_node=1", "zero=stage2", until=20)
    run.go_on("hardware.gpus_per_node=4", "zero=stage3", until=30)
    run.go_on("hardware.gpus_per_node=2", "zero=stage0", until=40)
    run.go_on("hardware.gpus_per_node=1", "zero=stage3")
    same(run, unbroken)
    assert [row["world_size"] for row in run.events if row["event"] == "started"] == [2, 1, 4, 2, 1]
    origins = [row["converted_from"] for row in run.events if row["event"] == "resumed"]
    shapes = [(origin["world_size"], origin["zero_stage"]) for origin in origins]
    assert shapes == [(2, 1), (1, 2), (4, 3), (2, 0)]
    assert not list(run.dir.checkpoints.glob(".universal*")), "what was taken apart is left"


def test_mixed_precision_goes_on_where_it_was(settings: tuple[str, ...]):
    """bf16 weights come from the fp32 ones, so the loss goes on without a jump."""
    short = (*settings, "train.precision=bf16", "train.max_steps=18", "optim.warmup_steps=10")
    run = start(*short, "zero=stage3", "name=mixed", until=6)
    run.stopped()
    run.go_on("zero=stage1", "hardware.gpus_per_node=1", until=12)
    run.go_on("zero=stage0", "hardware.gpus_per_node=2")
    straight = finish(*short, "zero=stage2", "name=mixed-straight")
    assert run.losses() == pytest.approx(straight.losses(), abs=2e-2)


def test_what_training_depends_on_is_refused_with_both_values(settings: tuple[str, ...]):
    run = start(*settings, "name=changed", until=5)
    run.stopped()
    name = str(run.dir.root)
    refused = call("resume", name, "seed=3", "optim.lr=0.5", "hardware.gpus_per_node=4")
    assert refused.returncode == 2
    assert "cannot change seed from 0 to 3: the training so far depends on it" in refused.stderr
    assert "--allow-change optim.lr" in refused.stderr
    assert "hardware" not in refused.stderr
    assert call("resume", name, "train.global_batch_size=10").returncode == 2
    odd = call("resume", name, "hardware.gpus_per_node=3")
    assert odd.returncode == 2
    assert "is not divisible" in odd.stderr
    printed = run.go_on("optim.lr=5e-4", "--allow-change", "optim.lr")
    assert "changed optim.lr: 0.001 -> 0.0005" in printed
    [changed] = [row for row in run.events if row["event"] == "changed"]
    assert changed["insisted"] == ["optim.lr"]


def test_a_finished_run_can_be_made_longer(unbroken: DrivenRun):
    """Comes last: the run that the others are compared with grows."""
    longer = STEPS + 10
    assert call("resume", str(unbroken.dir.root), "--follow").returncode == 0
    assert unbroken.status.attempt == 1
    printed = unbroken.go_on(f"train.max_steps={longer}")
    assert f"train.max_steps: {STEPS} -> {longer}" in printed
    made = (unbroken.result["step"], unbroken.status.attempt, len(unbroken.trace()))
    assert made == (longer, 2, longer)

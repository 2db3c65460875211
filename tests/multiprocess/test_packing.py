"""Packed runs: exact after a stop, the same on one rank or two, and with the losses of unpacked rows."""

from pathlib import Path

import pytest

from tests.multiprocess.driven import finish, start
from tests.multiprocess.runs import ROWS, Run, traced_settings
from train.rundir import read_lines

STEPS = 40
PACKING = ("data.packing=true", "data.max_length=96")


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    """Few packs, so that an epoch ends in the middle of a step; dropout on."""
    return (
        *traced_settings(module_runs, STEPS),
        *PACKING,
        "train.global_batch_size=4",
        "train.micro_batch_size=2",
    )


@pytest.fixture(scope="module")
def unbroken(settings: tuple[str, ...], module_runs: Path) -> Run:
    return finish(*settings, "name=unbroken", f"runs_dir={module_runs}")


def test_every_document_is_seen_once_an_epoch(unbroken: Run):
    data = unbroken.result["data"]
    assert data["documents"] == data["rows"] == ROWS
    assert data["sequences"] % 4, "an epoch should end in the middle of a step"
    ids = [row for _, batch in unbroken.trace() for row in batch]
    for epoch in range(STEPS * 4 // data["sequences"]):
        assert sorted(ids[epoch * ROWS : (epoch + 1) * ROWS]) == list(range(ROWS))
    metrics = list(read_lines(unbroken.dir.metrics))
    assert metrics[-1]["samples"] == len(ids) == unbroken.result["samples"]
    [journaled] = [row for row in unbroken.events if row["event"] == "data"]
    assert data.items() <= journaled.items()


def test_a_stop_in_the_middle_changes_nothing(settings: tuple[str, ...], unbroken: Run):
    run = start(*settings, "name=stopped", "checkpoint.every_steps=10", until=7)
    run.stopped()
    run.go_on()
    assert run.status.attempt == 2
    assert run.trace() == unbroken.trace()
    assert run.curve() == unbroken.curve()
    assert [row["event"] for row in run.events].count("data") == 1


def test_one_rank_and_two_make_the_same_losses(settings: tuple[str, ...]):
    """Without dropout, which ranks draw for themselves."""
    short = (*settings, "model.dropout=0", "train.max_steps=10", "optim.warmup_steps=2")
    one, two = (finish(*short, f"name=ranks-{ranks}", f"hardware.gpus_per_node={ranks}") for ranks in (1, 2))
    assert one.trace() == two.trace()
    assert one.losses() == pytest.approx(two.losses(), rel=1e-4)


def test_an_epoch_has_the_loss_of_its_rows(settings: tuple[str, ...], unbroken: Run):
    """One step over everything, packed, and one over the same rows unpacked and grouped by length."""
    packs = unbroken.result["data"]["sequences"]
    once = ("model.dropout=0", "train.max_steps=1", "optim.warmup_steps=0", "hardware.gpus_per_node=1")
    packed = finish(
        *settings, *once, "name=packed", f"train.global_batch_size={packs}", "train.micro_batch_size=1"
    )
    unpacked = (
        "name=grouped",
        "data.packing=false",
        "data.group_by_length=true",
        f"train.global_batch_size={ROWS}",
    )
    grouped = finish(*settings, *once, *unpacked)
    assert packed.losses() == pytest.approx(grouped.losses(), rel=1e-5)
    tokens = [next(read_lines(run.dir.metrics))["tokens"] for run in (packed, grouped)]
    assert tokens == [unbroken.result["data"]["tokens"]] * 2
    assert [row["event"] for row in grouped.events].count("data") == 1

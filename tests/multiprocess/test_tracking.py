"""W&B over attempts and accidents: one run, every step once, and never in the way."""

import json
import signal
from pathlib import Path

import pytest

from tests.multiprocess.driven import start
from tests.multiprocess.runs import traced_settings
from train.measure.wandb_files import recorded_steps
from train.rundir import read_lines


@pytest.fixture
def settings(tmp_path: Path) -> tuple[str, ...]:
    return (
        *traced_settings(tmp_path, 40),
        "tracking=offline",
        "train.micro_batch_size=1",
        "checkpoint.every_steps=10",
    )


def test_one_run_for_all_attempts_and_each_step_once(settings: tuple[str, ...]):
    """A kill takes the training back from step 17 to 10; a stop makes a second attempt."""
    run = start(*settings, "name=once", faults="kill9@forward:rank=1:step=17")
    assert -signal.SIGKILL in run.ended()
    run.start_again(faults="term@forward:step=28:restart=1").stopped()
    run.go_on()
    ids = {path.stem.removeprefix("run-") for path in run.dir.root.glob("wandb/offline-run-*/run-*.wandb")}
    assert ids == {json.loads(run.dir.plan.read_text())["training"]["wandb_id"]}
    assert sorted(recorded_steps(run.dir.root)) == list(range(1, 41)), "a step was sent twice, or not at all"
    written = [row["step"] for row in read_lines(run.dir.metrics)]
    assert written.count(15) == 2, "the test did not go back"
    assert len(run.curve()) == 40


def test_a_killed_service_does_not_reach_the_training(settings: tuple[str, ...]):
    run = start(*settings, "hardware.gpus_per_node=1", "name=no-service")
    run.wait_for_step(8)
    service = [
        child
        for rank in run.ranks()
        for child in rank.children(recursive=True)
        if "wandb" in " ".join(child.cmdline())
    ]
    assert service, "W&B has no process of its own any more"
    for process in service:
        process.kill()
    run.completed()
    assert len(run.curve()) == 40
    assert any("W&B failed" in row["reason"] for row in run.events if row["event"] == "tracking")

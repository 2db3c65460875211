"""W&B over attempts and accidents: one run, every step once, and never in the way."""

import json
from pathlib import Path

import pytest

from tests.multiprocess.runs import Run, start, traced_settings
from train.faults import VARIABLE
from train.rundir import read_lines
from train.wandb_files import _records


@pytest.fixture
def settings(tmp_path: Path) -> tuple[str, ...]:
    return (
        *traced_settings(tmp_path, 40),
        "tracking=offline",
        "train.micro_batch_size=1",
        "checkpoint.every_steps=10",
    )


def sent(run: Run) -> tuple[set[str], list[int]]:
    """Ids of the W&B runs, and the training steps, in the files that W&B keeps for its server."""
    from wandb.proto.wandb_internal_pb2 import Record

    ids, steps = set(), []
    for path in sorted(run.dir.root.glob("wandb/offline-run-*/run-*.wandb")):
        for data in _records(path.read_bytes()):
            record = Record.FromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
            entry = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in entry:
                steps.append(int(json.loads(entry["train/step"])))
    return ids, steps


def test_one_run_for_all_attempts_and_each_step_once(settings: tuple[str, ...]):
    """A kill takes the training back from step 17 to 10; a stop makes a second attempt."""
    run = start(
        *settings, "name=once", **{VARIABLE: "kill9@forward:rank=1:step=17;term@forward:step=28:restart=1"}
    )
    run.wait_for("PREEMPTED")
    run.resume()
    ids, steps = sent(run)
    assert ids == {json.loads(run.dir.plan.read_text())["training"]["wandb_id"]}
    assert sorted(steps) == list(range(1, 41)), "a step was sent twice, or not at all"
    written = [row["step"] for row in read_lines(run.dir.metrics)]
    assert written.count(15) == 2, "the test did not go back"
    assert len(run.curve()) == 40


def test_a_killed_service_does_not_reach_the_training(settings: tuple[str, ...]):
    run = start(*settings, "name=no-service")
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
    run.wait_for("COMPLETED")
    assert len(run.curve()) == 40
    assert any("W&B failed" in row["why"] for row in run.events if row["event"] == "tracking")

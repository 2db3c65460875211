"""Sweeps on a real Slurm: arrays, elements that fail, are requeued and cancelled, and what follows."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.node.trial import open_trial
from launcher.records.sweeps import SweepDir
from launcher.status.trials import read_sweep
from slurm.devcluster.layout import ClusterLayout
from tests.cluster.slurm import slurm
from tests.multiprocess.runs import LOOK_EVERY_S, command, traced_settings
from train.rundir import RunDir, read_lines

pytestmark = pytest.mark.usefixtures("cluster")
WITHIN_S = 400


def sweep_settings(folder: Path) -> tuple[str, ...]:
    return (
        *traced_settings(folder, 12),
        "slurm=devcluster",
        "hardware.device=cpu",
        "hardware.gpus_per_node=1",
        "train.micro_batch_size=2",
        "optim.warmup_steps=3",
        "tracking=disabled",
    )


def submit(*overrides: str) -> tuple[SweepDir, dict[str, Any]]:
    done = command("submit", "-m", *overrides, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    return SweepDir(Path(answer["dir"])), answer


def states(sweep: SweepDir) -> dict[str, str]:
    done = command("status", str(sweep.root), "--json")
    assert done.returncode == 0, done.stderr
    return {status["run"]: status["state"] for status in json.loads(done.stdout)}


def wait(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(LOOK_EVERY_S)


def wait_for_end(sweep: SweepDir, results: int) -> None:
    """Wait for so many results, and until no trial waits or runs."""
    runs = [sweep.run(trial.name) for trial in sweep.read().trials]
    wait(lambda: sum(run.result.exists() for run in runs) >= results, lambda: states(sweep))
    wait(
        lambda: not {"PENDING", "RUNNING"} & {status.state for status in read_sweep(sweep, sweep.read())},
        lambda: states(sweep),
    )


def test_failed_requeued_and_cancelled_trials(cluster: ClusterLayout, tmp_path: Path):
    axes = ("optim.lr=1e-4,1e-3", "cv.folds=2")
    settings = (*sweep_settings(tmp_path), *axes)
    sweep, answer = submit(*settings, "slurm.extra={hold: true}")
    [array] = answer["job_ids"]
    trials = [trial.name for trial in sweep.read().trials]
    assert len(trials) == 4
    failing, cancelled, requeued = trials[0], trials[1], trials[2]
    plan = open_trial(sweep, failing).plan
    sound = plan.read_text()
    spoilt = json.loads(sound)
    spoilt["training"]["data"]["train"]["sha256"] = "0" * 64
    plan.write_text(json.dumps(spoilt))
    slurm("scontrol", "release", array)
    slurm("scancel", f"{array}_1")
    metrics = sweep.run(requeued).metrics
    wait(metrics.exists, lambda: states(sweep))
    slurm("scontrol", "requeue", f"{array}_2")
    wait_for_end(sweep, results=3)
    found = states(sweep)
    assert found == {
        name: {failing: "FAILED", cancelled: "CANCELLED"}.get(name, "COMPLETED") for name in trials
    }
    again = sweep.run(requeued)
    attempts = {row["attempt"] for row in read_lines(again.events) if "attempt" in row}
    assert attempts == {1, 2}
    assert json.loads(again.result.read_text())["attempts"] == 2
    board = json.loads(command("results", str(sweep.root), "--json").stdout)
    assert board["states"] == {"COMPLETED": 2, "FAILED": 1, "CANCELLED": 1}
    assert sum(len(setting["trials"]) for setting in board["settings"]) == 4
    [bad] = [t for s in board["settings"] for t in s["trials"] if t["state"] == "FAILED"]
    assert "changed since the run was planned" in bad["why"]
    plan.write_text(sound)
    same, second = submit(*settings)
    assert same.root == sweep.root
    assert (second["started"], second["finished"]) == (2, 2)
    assert sweep.arrays()[-1].trials == [failing, cancelled]
    wait_for_end(sweep, results=4)
    assert set(states(sweep).values()) == {"COMPLETED"}
    assert_pooled(sweep)


def assert_pooled(sweep: SweepDir) -> None:
    """The score of a setting is that of all held-out rows together."""
    board = json.loads(command("results", str(sweep.root), "--json").stdout)
    assert board["metric"] == "loss"
    assert len(board["settings"]) == 2
    for setting in board["settings"]:
        rows = [
            row
            for trial in setting["trials"]
            for row in read_lines(RunDir(sweep.root / trial["name"]).predictions)
        ]
        assert len({row["row"] for row in rows}) == len(rows)
        pooled = sum(row["loss_sum"] for row in rows) / sum(row["tokens"] for row in rows)
        assert setting["score"] == pytest.approx(pooled, rel=1e-9)


def test_halving_stops_what_falls_behind_and_leaves_it_to_be_continued(
    cluster: ClusterLayout, tmp_path: Path
):
    sweep, answer = submit(
        *sweep_settings(tmp_path),
        "optim.lr=1e-6,1e-2",
        "optim.warmup_steps=0",
        "sweep.halving={rungs: [3, 6], keep: 0.5}",
    )
    assert len(answer["job_ids"]) == 3, "one array for each stretch between rungs"
    wait_for_end(sweep, results=1)
    best = next(trial.name for trial in sweep.read().trials if trial.point["optim.lr"] == 1e-2)
    assert states(sweep) == {
        trial.name: "COMPLETED" if trial.name == best else "PREEMPTED" for trial in sweep.read().trials
    }
    decided = [row for row in read_lines(sweep.events) if row["event"] == "halving"]
    assert [row["step"] for row in decided] == [3, 6]
    assert [len(row["dropped"]) for row in decided] == [1, 0]
    stopped = next(iter(decided[0]["dropped"]))
    assert "at step 3; the best 1 of 2" in decided[0]["dropped"][stopped]
    done = command("resume", str(sweep.root / stopped), "--follow", "--json")
    assert done.returncode == 0, done.stderr
    assert states(sweep)[stopped] == "COMPLETED"

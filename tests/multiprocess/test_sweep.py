"""Sweeps on this machine: trials in turn, one that fails, results while it runs, a runner that is killed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.records.sweeps import SweepDir
from launcher.status.runs import RunStatus
from launcher.status.trials import read_sweep
from tests.multiprocess import driven
from tests.multiprocess.runs import command, traced_settings
from train.rundir import read_lines

WITHIN_S = 240


@pytest.fixture(scope="module")
def settings(module_runs: Path) -> tuple[str, ...]:
    return (
        *traced_settings(module_runs, 4),
        "hardware.gpus_per_node=1",
        "train.micro_batch_size=2",
        "optim.warmup_steps=1",
        "tracking=disabled",
    )


def submit(*overrides: str, code: int = 0) -> tuple[SweepDir, dict[str, Any]]:
    done = command("submit", "-m", *overrides, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    return SweepDir(Path(answer["dir"])), answer


def statuses(sweep: SweepDir) -> list[RunStatus]:
    return read_sweep(sweep, sweep.read())


def states(sweep: SweepDir) -> list[str]:
    return [status.state for status in statuses(sweep)]


def wait(condition: Callable[[], bool], sweep: SweepDir) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, statuses(sweep)
        time.sleep(0.2)


def test_trials_equal_single_runs_and_a_failure_touches_no_other(settings: tuple[str, ...]):
    sweep, _ = submit(*settings, "data.max_length=8,64", "--follow", code=4)
    found = statuses(sweep)
    assert [status.state for status in found] == ["FAILED", "COMPLETED"]
    assert "no trained token within data.max_length=8" in found[0].why
    assert f"{settings[1].removeprefix('data.train=')}:1" in found[0].why
    alone = driven.finish(*settings, "data.max_length=64")
    trial = sweep.run(found[1].run)
    assert alone.dir.root.name == trial.root.name
    assert alone.curve() == [(r["step"], r["lr"], r["loss"]) for r in read_lines(trial.metrics)]
    text = command("results", sweep.root.name).stdout
    assert "1/1" in text
    assert "0/1" in text
    csv = command("results", str(sweep.root), "--csv").stdout.splitlines()
    assert csv[0].startswith("data.max_length,done,")
    assert len(csv) == 3
    finished_trials_are_set_aside(sweep, settings)


def finished_trials_are_set_aside(sweep: SweepDir, settings: tuple[str, ...]) -> None:
    """With `--all`, and trained again with the same losses."""
    trial = sweep.run(sweep.read().trials[1].name)
    before = [row["loss"] for row in read_lines(trial.metrics)]
    axes = (*settings, "data.max_length=8,64")
    assert submit(*axes, "--all", "--follow", code=4)[1]["started"] == 2
    assert [row["loss"] for row in read_lines(trial.metrics)] == before
    aside = {row["trial"]: row["to"] for row in read_lines(sweep.events) if row["event"] == "set_aside"}
    assert (sweep.root / aside[trial.root.name] / "result.json").exists()


def test_a_killed_runner_loses_nothing(settings: tuple[str, ...]):
    axes = (*settings, "optim.lr=1e-4,2e-4,3e-4")
    sweep, _ = submit(*axes)
    first, _, last = (sweep.run(trial.name) for trial in sweep.read().trials)
    wait(first.result.exists, sweep)
    [job] = sweep.array_jobs().values()
    psutil.Process(int(job.job_id)).kill()
    wait(lambda: not {"RUNNING", "PENDING"} & set(states(sweep)), sweep)
    assert states(sweep)[-1] == "FAILED"
    assert not last.root.exists()
    assert "submit the sweep again" in statuses(sweep)[-1].why
    second = submit(*axes, "--follow")[1]
    assert second["started"] + second["finished"] == 3
    assert states(sweep) == ["COMPLETED"] * 3
    assert submit(*axes)[1]["started"] == 0
    # Nothing was trained twice.
    assert all(status.attempt == 1 for status in statuses(sweep))


def test_stop_and_cancel_reach_what_runs_and_what_waits(settings: tuple[str, ...]):
    axes = (*settings, "optim.lr=1e-4,2e-4,3e-4", "train.max_steps=5000", "name=long")
    sweep, _ = submit(*axes)
    first = sweep.run(sweep.read().trials[0].name)
    wait(first.metrics.exists, sweep)
    assert command("stop", sweep.root.name).returncode == 0
    wait(lambda: states(sweep) == ["PREEMPTED", "CANCELLED", "CANCELLED"], sweep)
    second = submit(*axes)[1]
    assert second["started"] == 3
    wait(lambda: states(sweep)[0] == "RUNNING", sweep)
    assert command("cancel", sweep.root.name).returncode == 0
    assert states(sweep) == ["CANCELLED"] * 3

"""What a login node does with a sweep before any of its jobs starts."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.compose.run import compose_run
from launcher.records.sweeps import SweepDir, difference, patched
from tests.fakes.slurm import FakeSlurm, fake_slurm

SWEEP = ("-m", "experiment=smoke", "slurm=cluster", "hardware.device=cpu", "hardware.gpus_per_node=2")
Shardline = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return fake_slurm(tmp_path / "bin", largest_array=3)


def submit(shardline: Shardline, slurm: FakeSlurm, *more: str, code: int = 0) -> dict[str, Any]:
    done = shardline("submit", *SWEEP, *more, "--json", PATH=slurm.path)
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def statuses(shardline: Shardline, slurm: FakeSlurm, *names: str) -> list[dict[str, Any]]:
    done = shardline("status", *names, "--json", PATH=slurm.path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_array_per_slice_and_a_handful_of_files(shardline: Shardline, slurm: FakeSlurm, runs: Path):
    done = submit(shardline, slurm, "seed=range(0,7)", "sweep.parallel=2")
    assert [elements for _, _, elements in slurm.jobs] == [3, 3, 1]
    assert done["started"] == 7
    files = [path for path in runs.rglob("*") if path.is_file()]
    assert len(files) == 4 + len(slurm.jobs)
    assert '--array="0-2%2"' in (Path(done["dir"]) / "submitit" / "1001_submission.sh").read_text()
    found = statuses(shardline, slurm)
    assert [status["state"] for status in found] == ["PENDING"] * 7
    assert found[3]["job_id"] == "1002_0"


def test_a_trial_is_its_config(shardline: Shardline, slurm: FakeSlurm):
    done = submit(shardline, slurm, "seed=1,2", "optim.lr=1e-3,2e-3")
    file = SweepDir(Path(done["dir"])).read()
    for trial in file.trials:
        config = file.document(trial)["config"]
        alone = compose_run(
            [*SWEEP[1:], f"seed={trial.point['seed']}", f"optim.lr={trial.point['optim.lr']}"]
        ).config
        assert config == alone.model_dump(mode="json")
        assert trial.name == alone.run_name
    assert len({trial.name for trial in file.trials}) == 4


def test_again_starts_nothing_and_more_values_only_what_is_new(shardline: Shardline, slurm: FakeSlurm):
    first = submit(shardline, slurm, "seed=0,1", "optim.lr=1e-3,2e-3")
    again = submit(shardline, slurm, "seed=0,1", "optim.lr=1e-3,2e-3")
    assert (again["started"], again["alive"]) == (0, 4)
    more = submit(shardline, slurm, "seed=0,1,2", "optim.lr=1e-3,2e-3")
    assert more["dir"] == first["dir"]
    assert (more["started"], more["alive"]) == (2, 4)
    other = submit(shardline, slurm, "seed=0,1", "optim.lr=1e-3,2e-3", "train.max_steps=9")
    assert other["dir"] != first["dir"]


def test_a_command_killed_between_slices_is_completed_by_the_next(shardline: Shardline, slurm: FakeSlurm):
    slurm.kill_the_caller_after(2)
    done = shardline("submit", *SWEEP, "seed=range(0,12)", PATH=slurm.path)
    assert done.returncode == -signal.SIGKILL
    assert len(slurm.jobs) == 2
    rest = submit(shardline, slurm, "seed=range(0,12)")
    assert (rest["started"], rest["alive"]) == (6, 6)
    assert sum(elements for _, _, elements in slurm.jobs) == 12
    assert len({status["job_id"] for status in statuses(shardline, slurm)}) == 12


def test_a_refused_slice_is_told_and_continued(shardline: Shardline, slurm: FakeSlurm):
    slurm.refuse_from(3, "Job violates accounting/QOS policy (job submit limit)")
    done = submit(shardline, slurm, "seed=range(0,12)", code=3)
    assert done["started"] == 6
    assert "job submit limit" in done["refused"]["message"]
    slurm.accept()
    assert submit(shardline, slurm, "seed=range(0,12)")["started"] == 6


def test_every_mistake_of_every_trial_comes_before_the_first_sbatch(
    shardline: Shardline, slurm: FakeSlurm, runs: Path
):
    done = shardline(
        "submit",
        *SWEEP,
        "train.global_batch_size=4,5",
        "data.max_length=64,999999",
        "--json",
        PATH=slurm.path,
    )
    assert done.returncode == 2
    problems = json.loads(done.stdout)["problems"]
    assert {problem["code"] for problem in problems} == {"batch.divide", "data.max_length"}
    assert all("in 2 of 4 trials" in problem["message"] for problem in problems)
    assert not slurm.jobs
    assert not runs.exists()


def test_trials_that_would_be_the_same_run_are_refused(shardline: Shardline, slurm: FakeSlurm):
    done = shardline("submit", *SWEEP, "slurm.time_min=60,120", "--json", PATH=slurm.path)
    assert done.returncode == 2
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["code"] == "sweep.same"
    assert "slurm.time_min does not affect the training" in problem["message"]


def test_resources_that_differ_go_into_arrays_of_their_own(shardline: Shardline, slurm: FakeSlurm):
    done = submit(shardline, slurm, "train.micro_batch_size=1,2", "zero=stage1,stage2", "optim.lr=1e-3,2e-3")
    assert done["started"] == 8
    # Eight trials of one shape, at most three elements an array.
    assert [elements for _, _, elements in slurm.jobs] == [3, 3, 2]


def test_halving_over_several_arrays_is_refused(shardline: Shardline, slurm: FakeSlurm):
    rungs = ("sweep.halving.rungs=[2]", "optim.lr=1e-3,2e-3,3e-3,4e-3")
    done = shardline("submit", *SWEEP, *rungs, "--json", PATH=slurm.path)
    assert done.returncode == 2
    [problem] = json.loads(done.stdout)["problems"]
    assert "4 trials do not fit into one job array (limit of the site: 3)" in problem["message"]
    assert not slurm.jobs


@pytest.mark.parametrize("option", ["--failed", "--all"])
def test_options_of_sweeps_are_refused_for_a_single_run(shardline: Shardline, runs: Path, option: str):
    done = shardline("submit", "experiment=smoke", option)
    assert done.returncode == 2
    assert f"{option} has no effect on a single run" in done.stderr
    assert not runs.exists()


def test_halving_chains_one_array_per_rung(shardline: Shardline, slurm: FakeSlurm):
    done = submit(
        shardline, slurm, "optim.lr=1e-3,2e-3,3e-3", "sweep.halving.rungs=[2,4]", "sweep.halving.keep=0.5"
    )
    assert [elements for _, _, elements in slurm.jobs] == [3, 2, 1]
    scripts = Path(done["dir"]) / "submitit"
    assert '--dependency="afterany:1001"' in (scripts / "1002_submission.sh").read_text()
    assert '--dependency="afterany:1002"' in (scripts / "1003_submission.sh").read_text()


def test_status_asks_the_queue_once_for_everything(shardline: Shardline, slurm: FakeSlurm):
    submit(shardline, slurm, "seed=0,1")
    submit(shardline, slurm, "seed=0,1", "train.max_steps=7")
    before = slurm.squeue_calls
    assert len(statuses(shardline, slurm)) == 4
    assert slurm.squeue_calls == before + 1


def test_a_secret_in_a_swept_value_is_refused(shardline: Shardline, slurm: FakeSlurm, runs: Path):
    done = shardline(
        "submit",
        *SWEEP,
        "tracking.entity=canary-0123456789,other",
        "seed=1,2",
        PATH=slurm.path,
        WANDB_API_KEY="canary-0123456789",
    )
    assert done.returncode == 2
    assert "canary" not in done.stderr + done.stdout.replace("tracking.entity=canary", "")
    assert not any(runs.glob("*"))


def test_cancelled_before_it_started_is_not_lost(shardline: Shardline, slurm: FakeSlurm):
    done = submit(shardline, slurm, "seed=0,1")
    (slurm.folder / "scancel").write_text(
        f"#!/bin/sh\necho $* >> {slurm.folder}/cancelled\nrm -f {slurm.folder}/jobs\n"
    )
    (slurm.folder / "scancel").chmod(0o755)
    name = Path(done["dir"]).name
    assert shardline("cancel", name, PATH=slurm.path).returncode == 0
    assert (slurm.folder / "cancelled").read_text() == "1001\n"
    assert [status["state"] for status in statuses(shardline, slurm, name)] == ["CANCELLED"] * 2


def test_a_document_is_its_base_and_what_differs():
    base = {"a": {"b": 1, "c": [1]}, "d": None, "e": {"x": 1}}
    other = {"a": {"b": 2, "c": [1]}, "d": 0, "e": {"y": 1}}
    changes = difference(base, other)
    assert changes == [(["a", "b"], 2), (["d"], 0), (["e"], {"y": 1})]
    assert patched(base, changes) == other
    assert patched(base, json.loads(json.dumps(changes))) == other


def test_a_table_that_wandb_does_not_take_is_a_refusal(shardline: Shardline, slurm: FakeSlurm):
    done = submit(shardline, slurm, "seed=0,1", "tracking=online", "tracking.project=tables")
    sent = shardline(
        "results", Path(done["dir"]).name, "--wandb", "--json", PATH=slurm.path, WANDB_API_KEY="too short"
    )
    assert sent.returncode == 2, sent.stderr
    [problem] = json.loads(sent.stdout)["problems"]
    assert problem["code"] == "tracking.unreachable"
    assert "WANDB_API_KEY" in problem["message"]

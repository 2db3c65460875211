"""Every verb on clusters with and without accounting; a stop, a time limit; what is private stays so."""

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slurm.devcluster.layout import ClusterLayout
from tests.cluster.conftest import bring_up
from tests.cluster.slurm import assert_equal_runs, nothing_left, slurm, submit
from tests.cluster.test_submit import HELD, SHORT
from tests.multiprocess.runs import Run, command

CANARIES = {"WANDB_API_KEY": "canary" + "0" * 34, "HF_TOKEN": "hf_canary_token", "MY_SECRET": "canary-secret"}


@pytest.fixture
def bare_cluster() -> Iterator[ClusterLayout]:
    yield from bring_up(accounting=False)


def opened_to(others: int, path: Path) -> list[str]:
    """Files and folders that are more open than they may be."""
    return [
        f"{entry} {stat.S_IMODE(entry.lstat().st_mode):o}"
        for entry in [path, *path.rglob("*")]
        if not entry.is_symlink() and entry.lstat().st_mode & others
    ]


@pytest.mark.parametrize("kind", ["cluster", "bare_cluster"])
def test_every_verb(kind: str, request: pytest.FixtureRequest, settings: tuple[str, ...]):
    request.getfixturevalue(kind)
    settings = (*settings, "train.max_steps=60")
    planned = command("plan", *settings, "name=verbs", "--json")
    script = json.loads(planned.stdout)["sbatch"]
    assert planned.returncode == 0
    run = submit(*settings, "name=verbs")
    assert next(run.dir.root.glob("submitit/*_submission.sh")).read_text() == script, (
        "plan showed another script"
    )
    name = str(run.dir.root)
    assert command("submit", *settings, "name=verbs").returncode == 3
    run.wait_for_step(10)
    assert json.loads(command("status", name, "--json").stdout)[0]["nodes"] == "n1"
    stopped = command("stop", name)
    assert stopped.returncode == 0, stopped.stderr
    assert run.wait_for("PREEMPTED").why.startswith("stopped by shardline stop after step")
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)
    assert command("stop", name).returncode == 3
    told = command("logs", name, "--grep", "Starting with")
    assert told.stdout.startswith("[node 0] submitit INFO"), told.stdout
    assert command("resume", name, "--follow").returncode == 0
    assert run.status.attempt == 2
    assert "verbs-" in command("results", name).stdout
    assert "finished" in command("status", name).stdout
    assert command("doctor", "--json").returncode == 0
    assert "complete" in command("checkpoints", name).stdout
    assert not opened_to(0o077, run.dir.root)
    held = submit(*HELD, "name=held")
    assert "held by you" in command("status", str(held.dir.root)).stdout
    assert command("cancel", str(held.dir.root)).returncode == 0
    assert held.status.state == "CANCELLED"
    assert "was not running" in command("cancel", str(held.dir.root)).stdout


def test_doctor_looks_at_a_node(cluster: ClusterLayout):
    done = command("doctor", "--job", "slurm=devcluster", "--json")
    findings = {row["topic"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout + done.stderr
    assert "n1 ran the job" in findings["node"]["text"]
    assert findings["versions"]["level"] == "good"
    assert findings["accounting"]["level"] == "good"
    assert "is UP" in findings["Slurm"]["text"]


def test_doctor_says_what_kept_its_job_from_running(cluster: ClusterLayout):
    broken = "slurm.setup=['echo no such module >&2', 'exit 7']"
    done = command("doctor", "--job", "slurm=devcluster", broken, "--json")
    assert done.returncode == 2
    [job] = [row for row in json.loads(done.stdout) if row["topic"] == "job"]
    assert "no such module" in job["text"]


def test_a_bad_partition_is_refused_before_anything_is_made(cluster: ClusterLayout, runs: Path):
    done = command("submit", *SHORT, "slurm.partition=nowhere", "--json")
    assert done.returncode == 3
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["code"] == "slurm.refused"
    assert "partition" in problem["message"].lower()
    assert not list(runs.glob("*"))


def test_another_time_limit_may_be_given_to_a_run_that_ended(cluster: ClusterLayout):
    run = submit(*HELD, "name=longer")
    assert command("cancel", str(run.dir.root)).returncode == 0
    again = submit(*HELD, "name=longer", "slurm.time_min=77")
    assert again.dir == run.dir
    assert "TimeLimit=01:17:00" in slurm("scontrol", "show", "job", again.job_id)
    slurm("scancel", again.job_id)


def test_the_time_limit(cluster: ClusterLayout, settings: tuple[str, ...], unbroken: Run):
    """Slurm asks to stop 25 to 55 s into one minute; until then a rank is held, so that time passes."""
    run = submit(*settings, "name=limit", "slurm.time_min=1", "slurm.signal_delay_s=5")
    run.wait_for_step(30)
    held = run.ranks()[1]
    held.suspend()
    # Slurm signals every process of the step and wakes the held one: ranks may stop before the agent says so.
    run.wait(lambda: bool({"asked_to_stop", "preempted"} & set(run.kinds())), "Slurm's signal")
    with contextlib.suppress(psutil.NoSuchProcess):
        held.resume()
    run.completed()
    assert_equal_runs(run, unbroken)
    first, second = run.status.attempts
    assert (first.ended or "").startswith("stopped by SIGUSR2 after step")
    assert second.ended == "finished"


def test_a_run_directory_is_as_open_as_asked_and_holds_no_secret(cluster: ClusterLayout):
    """Open to the group; those of the test of every verb are private."""
    run = submit(*SHORT, "access=group", "tracking=offline", "name=quiet", **CANARIES)
    shown = slurm("scontrol", "show", "job", run.job_id)
    run.completed()
    run.wait(lambda: not nothing_left(run), "no process of the run", after_the_end=True)
    assert not opened_to(0o007, run.dir.root)
    assert run.dir.root.stat().st_mode & stat.S_ISGID
    assert run.dir.metrics.stat().st_mode & 0o060 == 0o060
    texts = {path: path.read_bytes() for path in run.dir.root.rglob("*") if path.is_file()}
    for value in CANARIES.values():
        assert value not in shown
        assert not [path for path, text in texts.items() if value.encode() in text]

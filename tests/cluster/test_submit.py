"""Submitting: several nodes, many jobs, hostile values, lost answers, an absent controller."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from launcher.compose.run import compose_run
from launcher.errors import Refused
from launcher.lifecycle.submit import submit_run
from slurm.client import queue
from slurm.devcluster.daemons import processes_of, start, succeeds, wait_until
from slurm.devcluster.layout import ClusterLayout
from tests.cluster.slurm import ClusterRun, finish, slurm, submit
from tests.commands import run_interpreter
from tests.multiprocess import driven
from tests.multiprocess.runs import command
from train.rundir import RunDir, read_lines

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("cluster")
SHORT = (
    "experiment=smoke",
    "slurm=devcluster",
    "train.precision=fp32",
    "hardware.device=cpu",
    "hardware.gpus_per_node=1",
    "train.max_steps=3",
    "optim.warmup_steps=0",
    "eval.base=false",
    "data.validation=null",
    "data.test=null",
)
HELD = (*SHORT, "slurm.extra={hold: true}")


def test_two_nodes_with_two_ranks_are_four_ranks(settings: tuple[str, ...]):
    short = (*settings, "train.max_steps=20", "optim.warmup_steps=5")
    four = driven.finish(*short, "slurm=local", "hardware.gpus_per_node=4", "name=four")
    run = finish(*short, "hardware.nodes=2", "name=two-by-two")
    assert run.losses() == pytest.approx(four.losses(), abs=1e-4)
    assert run.trace() == four.trace()
    assert next(row for row in run.events if row["event"] == "started")["world_size"] == 4
    [attempt] = run.status.attempts
    assert attempt.nodes == "n[1-2]"


def test_three_jobs_on_one_node_with_ports_taken():
    with ExitStack() as taken:
        for _ in range(200):
            taken.enter_context(socket.socket()).bind(("", 0))
        jobs = (*SHORT, "slurm.nodelist=n1", "slurm.gpus_per_node=0")
        runs = [submit(*jobs, f"seed={seed}", f"name=port-{seed}") for seed in range(3)]
        for run in runs:
            run.completed()
    assert all(run.status.attempts[0].nodes == "n1" and run.status.restarts == 0 for run in runs)


def test_twenty_submits_at_once_make_twenty_runs(runs: Path):
    def one(seed: int) -> dict[str, str]:
        done = command("submit", *HELD, f"seed={seed}", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(20)))
    assert len({answer["dir"] for answer in answers}) == 20
    assert len({answer["job_id"] for answer in answers}) == 20
    assert len(list(runs.iterdir())) == 20
    slurm("scancel", *(answer["job_id"] for answer in answers))


def test_the_same_config_submitted_at_once_is_one_job(runs: Path):
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: command("submit", *HELD, "name=same").returncode, range(4)))
    assert sorted(codes) == [0, 3, 3, 3]
    [root] = runs.iterdir()
    name = ClusterRun(RunDir(root)).status
    assert name.state == "PENDING"
    assert "held" in name.why
    slurm("scancel", str(name.job_id))


HOSTILE_TEXT = (
    "x\n#SBATCH --wrap=touch CANARY",
    "x\ntouch CANARY",
    "x; touch CANARY",
    "$(touch CANARY)",
    "`touch CANARY`",
    "x' ; touch CANARY ; '",
    'x" ; touch CANARY ; "',
    "--wrap=touch CANARY",
)
HOSTILE_FIELDS = ("comment", "licenses", "dependency", "mail_user", "constraint", "nodelist")
HOSTILE_OTHERS = (
    {"variables": {"A": "$(touch CANARY)"}},
    {"variables": {"A": "x'; touch CANARY; '"}},
    {"variables": {"A\ntouch CANARY": "x"}},
    {"extra": {"wrap": "touch CANARY"}},
    {"extra": {"switches": "1\n#SBATCH --wrap='touch CANARY'"}},
    {"modules": ["x; touch CANARY"]},
)


def hostile_values(canary: str) -> list[dict[str, Any]]:
    texts = [{field: text} for field in HOSTILE_FIELDS for text in HOSTILE_TEXT]
    return json.loads(json.dumps([*texts, *HOSTILE_OTHERS]).replace("CANARY", canary))


def test_hostile_values_are_refused_or_arrive_as_they_are(tmp_path: Path):
    """More than fifty, each really submitted where it is taken: none runs anything."""
    canary, check = tmp_path / "canary", tmp_path / "check.sh"
    check.write_text("#!/bin/bash\nsleep 600\n")
    check.chmod(0o755)
    # Its environment is read while the job waits for this check.
    waiting = (f"hardware.node_check={check}", "train.start_method=spawn")
    values = hostile_values(str(canary))
    assert len(values) >= 50
    base = yaml.safe_load((ROOT / "conf/slurm/devcluster.yaml").read_text())
    group = tmp_path / "conf" / "slurm" / "hostile.yaml"
    group.parent.mkdir(parents=True)
    taken: list[tuple[ClusterRun, dict[str, Any]]] = []
    for number, value in enumerate(values):
        group.write_text(yaml.safe_dump({**base, **value}))
        overrides = [*SHORT[:1], "slurm=hostile", *SHORT[2:], f"seed={number}", *waiting]
        try:
            submission = submit_run(compose_run(overrides, [group.parent.parent]))
        except Refused as refusal:
            fields = {problem.field.split(".")[0] for problem in refusal.problems}
        else:
            taken.append((ClusterRun(submission.run), value))
            continue
        assert fields == {"slurm"}
    for run, value in taken:
        run.wait_for_task()
        if "comment" in value:
            assert f"Comment={value['comment']}" in slurm("scontrol", "show", "job", run.job_id)
        else:
            assert run.agents()[0].environ()["A"] == value["variables"]["A"]
        slurm("scancel", run.job_id)
    assert len(taken) == 4
    assert not canary.exists()


def test_a_comment_with_every_allowed_character_arrives():
    comment = "project A (phase 2): a+b=c; 50 @ x/y #3 [z] _.,"
    run = submit(*HELD, f"slurm.comment='{comment}'")
    assert f"Comment={comment}" in slurm("scontrol", "show", "job", run.job_id)
    slurm("scancel", run.job_id)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_sbatch_no_job_is_lost_or_doubled(tmp_path: Path, runs: Path, moment: str):
    """kill -9 of the command just before sbatch, or when sbatch has answered and nothing is written."""
    real = shutil.which("sbatch")
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    submit_it = f'{real} "$@"' if moment == "after" else ":"
    fake.write_text(f'#!/bin/bash\n[ "$1" = --test-only ] && exec {real} "$@"\n{submit_it}\nkill -9 $PPID\n')
    fake.chmod(0o755)
    config = (*SHORT, f"name=killed-{moment}")
    done = command("submit", *config, PATH=f"{fake.parent}:{os.environ['PATH']}")
    assert done.returncode == -9
    [root] = runs.glob("killed-*")
    run = ClusterRun(RunDir(root))
    if moment == "after":
        assert run.status.state in ("PENDING", "RUNNING")
        assert command("submit", *config).returncode == 3, "a second job was submitted"
    else:
        assert run.status.state == "PENDING", "an intent without a job is given a minute"
        rows = [{**row, "time": row["time"] - 100} for row in read_lines(run.dir.jobs)]
        run.dir.jobs.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run.status.why == "submission was interrupted; run: shardline resume"
        assert command("resume", str(root)).returncode == 0
    run.completed()
    assert len([record for record in queue() if record.name.startswith(root.name)]) == 1


def controller(layout: ClusterLayout) -> psutil.Process:
    [found] = [
        process for process in processes_of(layout.root) if process.cmdline()[:1] == ["/usr/sbin/slurmctld"]
    ]
    return found


def away_for(seconds: float, come_back: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, come_back)
    timer.start()
    return timer


def test_the_controller_hangs_for_twenty_seconds_during_submit(cluster: ClusterLayout):
    """Its answers are lost, the requests are not: the job must not be sent a second time."""
    hung = controller(cluster)
    hung.suspend()
    timer = away_for(20, hung.resume)
    run = submit(*HELD, "name=away")
    timer.join()
    assert [record.job_id for record in queue() if record.name.startswith("away-")] == [run.job_id]
    slurm("scancel", run.job_id)


def test_the_controller_is_down_for_twenty_seconds_during_status(cluster: ClusterLayout):
    run = submit(*HELD, "name=down")
    stopped = controller(cluster)
    stopped.terminate()
    stopped.wait(timeout=30)
    timer = away_for(20, lambda: start("slurmctld", "-D", root=cluster.root, environ=cluster.environ()))
    status = command("status", str(run.dir.root), "--json")
    timer.join()
    wait_until(lambda: succeeds(["scontrol", "ping"], {}), "slurmctld", cluster.log_dir / "slurmctld.log")
    [row] = json.loads(status.stdout)
    assert (row["state"], row["job_id"]) == ("PENDING", run.job_id)
    slurm("scancel", run.job_id)


def test_submitting_from_inside_a_job_hands_nothing_of_it_on(runs: Path):
    environ = {**os.environ, "SLURM_PLANTED": "1", "SBATCH_PARTITION": "nowhere"}
    inside = [
        sys.executable,
        "-P",
        "-m",
        "launcher",
        "submit",
        *SHORT,
        "slurm.partition=batch",
        "--json",
    ]
    done = subprocess.run(
        ["srun", "--nodes=1", "--ntasks=1", "--partition=high", *inside],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = ClusterRun(RunDir(Path(json.loads(done.stdout)["dir"])))
    run.wait_for_task()
    found = run.agents()[0].environ()
    assert "SLURM_PLANTED" not in found
    assert found["SLURM_JOB_ID"] == run.job_id
    assert found["SLURM_JOB_PARTITION"] == "batch"
    assert found["SLURM_CONF"] == os.environ["SLURM_CONF"]
    run.completed()


def test_what_is_edited_while_the_job_waits_changes_nothing(tmp_path: Path):
    """Submitted from a copy of the sources; then model, data and code of the copy are spoilt."""
    copy = tmp_path / "copy"
    for name in ("launcher", "train", "slurm", "conf", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    environ = {**os.environ, "PYTHONPATH": str(copy)}
    done = run_interpreter("submit", *HELD, "name=frozen", "--json", environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    run = ClusterRun(RunDir(Path(json.loads(done.stdout)["dir"])))
    frozen = (run.dir.code / "train" / "rank" / "loop.py").read_text()
    (copy / "train" / "rank" / "loop.py").write_text("raise SystemExit('edited')\n")
    (copy / "launcher" / "node" / "entry.py").write_text("raise SystemExit('edited')\n")
    (copy / "conf" / "experiment" / "smoke.yaml").write_text("# @package _global_\nname: edited\n")
    slurm("scontrol", "release", run.job_id)
    run.completed()
    assert (run.dir.code / "train" / "rank" / "loop.py").read_text() == frozen
    assert run.result["step"] == 3


def test_a_node_that_fails_its_check_is_left_out_of_the_next_attempt(tmp_path: Path):
    check = tmp_path / "check.sh"
    # The second node of the first attempt is unfit, whichever it is.
    check.write_text(
        "#!/bin/bash\n[ $SLURM_NODEID$SLURM_RESTART_COUNT = 1 ] && echo Xid 79 && exit 1\nexit 0\n"
    )
    check.chmod(0o755)
    wide = (*SHORT, "hardware.nodes=2", "train.micro_batch_size=1", "train.start_method=spawn")
    run = submit(*wide, f"hardware.node_check={check}", "name=unfit")
    run.completed()
    first, second = run.status.attempts
    unfit = slurm("scontrol", "show", "hostnames", str(first.nodes)).split()[1]
    assert unfit not in slurm("scontrol", "show", "hostnames", str(second.nodes)).split()
    refusal = f"node {unfit} failed its health check: hardware.node_check={check} exited with code 1: Xid 79"
    assert first.ended == refusal
    crash = next(row for row in run.events if row["event"] == "crashed")
    assert (crash["failure_class"], crash["host"], crash["then"]) == ("node", unfit, "requeue")
    assert f"node {unfit} failed its health check" in command("status", str(run.dir.root)).stdout


def test_attempts_that_do_not_get_on_end_after_three(tmp_path: Path):
    """An error that is worth another try each time, and never gets further."""
    check = tmp_path / "check.sh"
    check.write_text("#!/bin/bash\necho never; exit 1\n")
    check.chmod(0o755)
    run = submit(*SHORT, f"hardware.node_check={check}", "train.start_method=spawn", "name=stalls")
    run.wait(run.dir.result.exists, "the end")
    assert run.result["exit_code"] == 93
    assert run.status.state == "FAILED"
    assert run.status.why.startswith("3 attempts in a row saved no checkpoint: n")
    assert run.status.why.count(f"check: hardware.node_check={check} exited with code 1: never") == 3
    assert len({attempt.nodes for attempt in run.status.attempts}) == 3, "an unfit node was tried again"

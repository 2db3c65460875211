"""From submit to the end by whole commands: one run for two submits, stop, cancel, the shell."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.commands import COMMAND
from tests.multiprocess.runs import Run, command, start
from train.rundir import RunDir

SMOKE = ("experiment=smoke", "train.precision=fp32")
SPEAKING = """
frozen = run_rank


def run_rank(*arguments):
    print("{marker}")
    return frozen(*arguments)
"""
"""What a rank does first says so."""
RUNNING = (*SMOKE, "name=running", "train.max_steps=50000")


def test_a_stop_while_the_ranks_start_is_neither_lost_nor_a_crash(runs: Path):
    run = start(*SMOKE, "train.max_steps=5000")
    while not run.dir.attempt_logs(1).exists():
        time.sleep(0.005)
    run.agent().send_signal(signal.SIGTERM)
    status = run.wait_for("PREEMPTED")
    assert status.restarts == 0
    assert status.step < 100
    assert "crashed" not in run.kinds()


@pytest.fixture(scope="module")
def running(module_runs: Path) -> Iterator[tuple[Run, list[dict[str, object]], list[int]]]:
    """A long run, what two submits at once said of it, and their exit codes. The last test of it ends it.

    Both are new interpreters, as they are for users; most other commands of the tests are forked.
    """
    words = [*COMMAND, "submit", *RUNNING, f"runs_dir={module_runs}", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    [folder] = [path for path in module_runs.iterdir() if path.name.startswith("running-")]
    run = Run(RunDir(folder))
    run.wait_for_step(1)
    yield run, answers, [process.returncode for process in both]
    command("cancel", str(run.dir.root))


def test_of_two_submits_at_once_one_starts_the_run(running):
    run, answers, codes = running
    assert sorted(codes) == [0, 3]
    assert sum("job_id" in answer for answer in answers) == 1
    assert len(run.ranks()) == 2


def test_a_running_run_is_not_started_twice(running, module_runs: Path):
    run = running[0]
    for arguments in (("submit", *RUNNING, f"runs_dir={module_runs}"), ("resume", str(run.dir.root))):
        again = command(*arguments)
        assert again.returncode == 3
        assert "is already running" in again.stderr


def test_the_frozen_code_is_what_runs(running):
    run = running[0]
    code = json.loads((run.dir.code / "code.json").read_text())
    assert code["versions"]["torch"].startswith("2.")
    run.stop()
    marker = "frozen code speaking"
    with (run.dir.code / "train" / "rank" / "setup.py").open("a") as setup:
        setup.write(SPEAKING.format(marker=marker))
    assert command("resume", str(run.dir.root)).returncode == 0
    run.wait_for_step(run.status.step + 1)
    assert marker in (run.dir.attempt_logs(2) / "rank_0.log").read_text()


def test_cancel_leaves_no_process(running):
    run = running[0]
    family = [run.agent(), *run.ranks()]
    assert command("cancel", str(run.dir.root)).returncode == 0
    psutil.wait_procs(family, timeout=60)
    assert not [process for process in family if process.is_running()]
    assert run.status.state == "CANCELLED"
    assert "was not running" in command("cancel", str(run.dir.root)).stdout


def test_submit_returns_at_once_and_the_run_outlives_its_shell(runs: Path):
    """And its logs are followed from the start to the end. The command is a new interpreter."""
    shell = subprocess.Popen(
        [*COMMAND, "submit", *SMOKE, "train.max_steps=60", "--json"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    answer, _ = shell.communicate(timeout=120)
    # What a closed terminal does to everything that still belongs to it.
    for process in psutil.process_iter():
        if os.getsid(process.pid) == shell.pid:
            process.send_signal(signal.SIGHUP)
    run = Run(RunDir(Path(json.loads(answer)["dir"])))
    assert run.status.state in ("PENDING", "RUNNING")
    followed = command("logs", "-f", "--json", run.dir.root.name).stdout.splitlines()
    assert (run.status.state, run.status.step) == ("COMPLETED", 60)
    assert {json.loads(line)["source"] for line in followed} >= {"rank 0", "node 0"}
    (run.dir.attempt_logs(1) / "rank_1.log").write_text("said by one\n")
    assert command("logs", run.dir.root.name, "--rank", "1").stdout == "[rank 1] said by one\n"

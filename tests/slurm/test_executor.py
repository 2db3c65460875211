"""The local executor: a job that outlives its shell, with nothing of the terminal in its hands."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slurm.environment import outside_of_jobs, task_place
from slurm.executor import LocalRequest, run_task, submit_local

SUBMIT = """
import sys
from pathlib import Path
from slurm.executor import LocalRequest, submit_local
from tests.slurm.test_executor import leave_a_note
folder = Path(sys.argv[1]) / "jobs"
request = LocalRequest(folder=folder, time_min=1, signal_delay_s=5, gpus=0, environ={"NOTE": "x"})
print(submit_local(request, leave_a_note, sys.argv[1]), flush=True)
"""


def leave_a_note(folder: str) -> None:
    """Runs as the job."""
    facts = {
        "session": os.getsid(0),
        "note": os.environ["NOTE"],
        "stdin": os.path.realpath("/proc/self/fd/0"),
    }
    Path(folder, "note.part").write_text(json.dumps(facts))
    Path(folder, "note.part").rename(Path(folder, "note.json"))


def test_the_job_survives_the_session_that_submitted_it(tmp_path: Path):
    root = Path(__file__).resolve().parents[2]
    shell = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert shell.stdout is not None
    # The pipe ends with the shell: a job that held it open would make this wait for the job.
    job_id = int(shell.stdout.read())
    job = psutil.Process(job_id) if psutil.pid_exists(job_id) else None
    assert shell.wait(timeout=30) == 0
    if job:
        job.wait(timeout=60)
    deadline = time.monotonic() + 60
    while not (tmp_path / "note.json").exists():
        assert time.monotonic() < deadline, "the job left no note"
        time.sleep(0.05)
    note = json.loads((tmp_path / "note.json").read_text())
    assert note["session"] != shell.pid
    assert note["note"] == "x"
    assert note["stdin"] == os.devnull


def test_a_job_that_cannot_be_submitted_says_why(tmp_path: Path):
    (tmp_path / "file").write_text("")
    request = LocalRequest(folder=tmp_path / "file" / "x", time_min=1, signal_delay_s=5, gpus=0, environ={})
    with pytest.raises(RuntimeError, match="Submitit could not start the job: NotADirectoryError"):
        submit_local(request, leave_a_note, str(tmp_path))


def test_place_of_a_local_task():
    place = task_place({"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "77"})
    assert (place.job_id, place.node, place.nodes, place.start) == ("77", 0, 1, "77")


def test_place_of_a_slurm_task():
    place = task_place(
        {
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": "12",
            "SLURM_RESTART_COUNT": "2",
            "SLURM_NODEID": "1",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURMD_NODENAME": "n4",
            "SLURM_JOB_NODELIST": "n[2,4]",
            "SLURM_JOB_NAME": "run-1.ab",
        }
    )
    assert (place.node, place.nodes, place.start, place.node_name) == (1, 2, "12.2", "n4")


def test_a_surrounding_job_and_sbatch_defaults_are_not_handed_on():
    kept = outside_of_jobs(
        {"SLURM_CPU_BIND": "x", "SBATCH_PARTITION": "p", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}
    )
    assert kept == {"SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}


@pytest.mark.parametrize("foreign", ["link", "writable"])
def test_what_another_could_have_put_there_is_not_unpickled(tmp_path: Path, foreign: str):
    pickle, elsewhere = tmp_path / "submitted.pkl", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"not even a pickle")
    if foreign == "link":
        pickle.symlink_to(elsewhere)
    else:
        elsewhere.rename(pickle)
        pickle.chmod(0o666)
    with pytest.raises(PermissionError, match="refusing to run"):
        run_task(tmp_path)

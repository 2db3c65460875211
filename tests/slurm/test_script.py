"""The batch script: all of it, for one rich job, and what each kind of environment changes."""

import subprocess
from pathlib import Path

import pytest

from slurm.config import EnvironmentConfig, SlurmConfig
from slurm.script import JobSpec, batch_script

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "sbatch.sh"


def spec(**changes: object) -> JobSpec:
    values = {
        "name": "demo-1a2b3c4d.0f0f0f0f",
        "nodes": 2,
        "ranks_per_node": 4,
        "gpus_per_node": 4,
        "folder": Path("/shared/runs/demo-1a2b3c4d/submitit"),
        "code": Path("/shared/runs/demo-1a2b3c4d/code"),
        "python": "/shared/venv/bin/python",
        "tail": ("launcher.node.epilog", "/shared/runs/demo-1a2b3c4d"),
    }
    return JobSpec(**{**values, **changes})


RICH = SlurmConfig(
    executor="slurm",
    partition="gpu,gpu-long",
    account="lab",
    qos="high",
    constraint="a100&ib",
    reservation="course",
    nodelist="n[1-4]",
    exclude="n2",
    gpu_type="a100",
    cpus_per_gpu=8,
    mem_per_gpu_gb=64,
    exclusive=True,
    time_min=90,
    signal_delay_s=240,
    nice=10,
    dependency="afterok:12:13,singleton",
    licenses="abaqus:2",
    comment="grant 42 (b)",
    mail_user="me@example.org",
    mail_type=["END", "FAIL"],
    modules=["cuda/12.4", "gcc/13"],
    variables={"NCCL_SOCKET_IFNAME": "ib0", "NOTE": "it's; $(so)"},
    setup=["ulimit -n 65536"],
    extra={"switches": "1@5:00", "contiguous": True, "hold": False},
)


def test_the_whole_script():
    """To accept a change: write what this produces to tests/golden/sbatch.sh, and read the difference."""
    assert batch_script(RICH, spec()) == GOLDEN.read_text()


def test_every_script_is_bash():
    for config in (SlurmConfig(), RICH):
        done = subprocess.run(["bash", "-n"], input=batch_script(config, spec()), text=True, check=False)
        assert done.returncode == 0


def task_of(environment: EnvironmentConfig) -> str:
    text = batch_script(SlurmConfig(environment=environment), spec())
    return next(line for line in text.splitlines() if line.startswith("srun"))


def test_environments():
    assert "/shared/venv/bin/python -u -m slurm.executor" in task_of(EnvironmentConfig())
    assert "/e/bin/python -u" in task_of(EnvironmentConfig(kind="conda", path="/e"))
    pyxis = task_of(EnvironmentConfig(kind="pyxis", path="nvcr.io#nvidia/pytorch:26.01", mounts=["/data"]))
    assert "--container-image=nvcr.io#nvidia/pytorch:26.01" in pyxis.replace("'", "")
    assert "--container-mounts=/shared/runs/demo-1a2b3c4d:/shared/runs/demo-1a2b3c4d,/data:/data" in pyxis
    assert "python3 -u -m slurm.executor" in pyxis
    apptainer = task_of(EnvironmentConfig(kind="apptainer", path="/i.sif", mounts=["/a:/b"]))
    assert "apptainer exec --nv --bind=/shared/runs/demo-1a2b3c4d:/shared/runs/demo-1a2b3c4d" in apptainer
    assert "--bind=/a:/b /i.sif python3 -u" in apptainer


def test_a_job_that_must_not_come_back_says_so():
    assert "#SBATCH --no-requeue\n" in batch_script(SlurmConfig(requeue=False), spec())


@pytest.mark.parametrize("gpus", [0, 2])
def test_gpus_are_asked_for_when_there_are_ranks_on_them(gpus: int):
    assert ("--gpus-per-node" in batch_script(SlurmConfig(), spec(gpus_per_node=gpus))) == bool(gpus)

"""What the doctor finds good, worth a note or wrong, on machines made up for the test."""

from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.doctor import machine
from launcher.doctor.machine import Finding, check_here, check_node
from slurm.client import SlurmError
from slurm.executor import SlurmRequest, SubmissionError
from slurm.states import JobRecord
from tests.launcher.planning.conftest import config_with
from train.rundir import write_json

FACTS: dict[str, Any] = {"host": "login", "python": "3.11.7", "gpus": 0, "driver": None, "torch": "2.12.0"}


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workstation where all is well: no Slurm, no GPU, W&B's key in the environment."""
    runs.mkdir()
    monkeypatch.setattr(machine, "requires", lambda _: ["torch>=2.10", 'pytest>=8; extra == "dev"'])
    monkeypatch.setattr(machine, "version", lambda _: "2.12.0")
    monkeypatch.setattr(machine, "compiler_obstacle", lambda: None)
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    monkeypatch.setattr(machine, "driver_version", lambda: None)
    monkeypatch.setattr(machine, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(machine, "_file_system", lambda _: "nfs4")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=80e9, total=90e9))
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setenv("WANDB_API_KEY", "key")
    monkeypatch.setenv("HOME", str(tmp_path))


def levels(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.topic: finding.level for finding in findings}


WELL = {
    "python": "good",
    "packages": "good",
    "compiler": "good",
    "runs": "good",
    "GPUs": "note",
    "processor": "good",
    "Slurm": "note",
    "Weights & Biases": "good",
}


def answers(value: Any) -> Callable[..., Any]:
    """A function that returns a value, or raises it."""

    def answer(*_: Any, **__: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return answer


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, {}),
        ({"compiler_obstacle": "no g++"}, {"compiler": "note"}),
        ({"count_gpus": 2}, {"GPUs": "good"}),
        ({"multiplies_bf16": False}, {"processor": "note"}),
        ({"version": "2.9.1"}, {"packages": "wrong"}),
        ({"version": PackageNotFoundError("torch")}, {"packages": "wrong"}),
        ({"version": "2.12.0rc1"}, {}),
        ({"_file_system": "ext4"}, {"runs": "note"}),
        ({"_file_system": "lustre"}, {}),
    ],
)
def test_each_topic_has_its_level(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], differs: dict[str, str]
):
    for name, value in changes.items():
        monkeypatch.setattr(machine, name, answers(value))
    assert levels(check_here()) == WELL | differs


def test_a_folder_without_write_access_is_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "wrong" in [finding.level for finding in check_here() if finding.topic == "runs"]


def test_little_shared_memory_is_a_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=80e9, total=0.06e9))
    assert levels(check_here()) == WELL | {"shared memory": "note"}


@pytest.mark.parametrize(("netrc", "level"), [(None, "note"), ("machine api.wandb.ai", "good"), ("", "note")])
def test_a_key_of_wandb_may_stand_in_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netrc: str | None, level: str
):
    monkeypatch.delenv("WANDB_API_KEY")
    if netrc is not None:
        (tmp_path / ".netrc").write_text(netrc)
    assert levels(check_here())["Weights & Biases"] == level


@pytest.mark.parametrize(
    ("ping", "accounting", "expected"),
    [
        ("up", True, {"Slurm": "good", "partitions": "good", "accounting": "good"}),
        ("up", False, {"Slurm": "good", "partitions": "good", "accounting": "note"}),
        (SlurmError("no contact"), True, {"Slurm": "wrong"}),
    ],
)
def test_slurm_answers(
    monkeypatch: pytest.MonkeyPatch, ping: str | SlurmError, accounting: bool, expected: dict[str, str]
):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine, "ping", answers(ping))
    monkeypatch.setattr(machine, "partitions", answers(["gpu 4 idle"]))
    monkeypatch.setattr(machine, "accounting_answers", answers(accounting))
    assert levels(check_here()) == WELL | expected


class Job:
    """The job of `doctor --slurm`: leaves a report, or does not."""

    def __init__(self, report: dict[str, Any] | None, state: str = "COMPLETED") -> None:
        self.report = report
        self.state = state
        self.names: list[str] = []
        self.cancelled: list[str] = []
        self.script = ""

    def submit(self, request: SlurmRequest, _function: Any, folder: str) -> str:
        self.script = request.script
        if self.report is not None:
            write_json(Path(folder) / "report.json", self.report)
        else:
            (Path(folder) / "7_batch.out").write_text("no module named torch")
        return "7"

    def find(self, name: str) -> JobRecord:
        self.names.append(name)
        return JobRecord(job_id="7", state=self.state, name=name, start=None, nodes="", reason="Priority")

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


def checked(monkeypatch: pytest.MonkeyPatch, job: Job, **hardware: Any) -> list[Finding]:
    monkeypatch.setattr(machine, "submit_slurm", job.submit)
    monkeypatch.setattr(machine, "find_job", job.find)
    monkeypatch.setattr(machine, "cancel", job.cancel)
    monkeypatch.setattr(machine, "_NODE_WITHIN_S", 0.05)
    monkeypatch.setattr(machine, "_POLL_S", 0.01)
    monkeypatch.setattr(machine, "facts_of_this_machine", lambda: FACTS)
    changes: dict[str, Any] = {
        "slurm.executor": "slurm",
        "hardware.device": "cpu",
        "hardware.gpus_per_node": 2,
    }
    changes |= {f"hardware.{key}": value for key, value in hardware.items()}
    return check_node(config_with(changes))


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"host": "n1", "gpus": 8, "driver": "550"}, "good"),
        ({"host": "n1", "torch": "2.11.0"}, "wrong"),
        ({"host": "n1", "python": "3.12.1"}, "wrong"),
    ],
)
def test_versions_are_alike_on_the_node(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], level: str, runs: Path
):
    node, versions = checked(monkeypatch, Job({**FACTS, **changes}))
    assert (node.topic, node.level, versions.topic, versions.level) == ("node", "good", "versions", level)
    assert "n1" in node.text
    for name in changes.keys() & {"torch", "python"}:
        assert changes[name] in versions.text
        assert FACTS[name] in versions.text
    assert list(runs.iterdir()) == [], "the folder of the job is left"


@pytest.mark.parametrize(
    ("state", "part", "cancelled"),
    [("FAILED", "no module named torch", []), ("PENDING", "Priority", ["7"])],
)
def test_a_job_without_a_report_is_wrong(
    monkeypatch: pytest.MonkeyPatch, state: str, part: str, cancelled: list[str]
):
    job = Job(None, state)
    [finding] = checked(monkeypatch, job)
    assert (finding.topic, finding.level) == ("job", "wrong")
    assert part in finding.text
    assert job.cancelled == cancelled


def test_a_job_that_slurm_refuses_is_wrong(monkeypatch: pytest.MonkeyPatch):
    job = Job(None)
    monkeypatch.setattr(job, "submit", answers(SubmissionError("invalid partition")))
    [finding] = checked(monkeypatch, job)
    assert (finding.level, finding.text) == ("wrong", "invalid partition")


@pytest.mark.parametrize(("device", "asked"), [("cpu", False), ("cuda", True)])
def test_the_job_asks_for_the_gpus_of_a_node(monkeypatch: pytest.MonkeyPatch, device: str, asked: bool):
    job = Job(FACTS)
    checked(monkeypatch, job, device=device, gpus_per_node=4)
    assert any(line.startswith("#SBATCH --gpus-per-node") for line in job.script.splitlines()) == asked

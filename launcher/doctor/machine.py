"""Checks whether this machine and a compute node can run jobs that are submitted from here."""

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from launcher.config import RunConfig
from launcher.planning.facts.machine import count_gpus, driver_version
from launcher.records.runs import runs_root
from slurm.client import SlurmError, accounting_answers, cancel, find_job, partitions, ping
from slurm.executor import SlurmRequest, SubmissionError, submit_slurm
from slurm.script import JobSpec, batch_script
from slurm.states import why_waiting
from train.machine.cpu_features import multiplies_bf16
from train.machine.toolchain import compiler_obstacle
from train.packages import RECORDED
from train.rundir import write_json

_SHARED_TYPES = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "panfs", "wekafs", "orangefs", "9p")
_SMALL_SHM_GB = 1.0
_NODE_WITHIN_S = 300.0
_POLL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    level: Literal["good", "note", "wrong"]
    topic: str
    text: str


def check_here() -> list[Finding]:
    """Check the machine that the command runs on."""
    return [*_python(), *_compiler(), *_places(), *_gpus(), *_processor(), *_slurm(), *_accounts()]


def _python() -> Iterator[Finding]:
    yield Finding(level="good", topic="python", text=f"{platform.python_version()} ({sys.executable})")
    wrong = list(_package_problems())
    if wrong:
        yield Finding(level="wrong", topic="packages", text="; ".join(wrong))
    else:
        yield Finding(
            level="good", topic="packages", text="all required packages are installed in compatible versions"
        )


def _compiler() -> Iterator[Finding]:
    obstacle = compiler_obstacle()
    text = f"{obstacle}; model.compile=true on CPU ranks needs it" if obstacle else "found, for model.compile"
    yield Finding(level="note" if obstacle else "good", topic="compiler", text=text)


def _package_problems() -> Iterator[str]:
    for line in requires("shardline") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is installed, but {requirement.specifier} is required"


def _places() -> Iterator[Finding]:
    root = runs_root()
    place = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            level="wrong", topic="runs", text=f"cannot create {root}: no permission to write to {place}"
        )
    free_gb = shutil.disk_usage(place).free / 1e9
    kind = _file_system(place)
    shared = kind.startswith(_SHARED_TYPES)
    hint = "" if shared else "; jobs on other nodes need a shared file system"
    level: Literal["good", "note"] = "good" if shared else "note"
    yield Finding(level=level, topic="runs", text=f"{root} on {kind}, {free_gb:.0f} GB free{hint}")
    shm = Path("/dev/shm")  # noqa: S108 - a fixed path of Linux
    if shm.is_dir() and (shm_gb := shutil.disk_usage(shm).total / 1e9) < _SMALL_SHM_GB:
        yield Finding(
            level="note", topic="shared memory", text=f"{shm} has {shm_gb:.2f} GB; NCCL may need more"
        )


def _file_system(place: Path) -> str:
    """Return the type of the file system of a path, which is that of its longest mount point."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if place.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _gpus() -> Iterator[Finding]:
    found = count_gpus()
    driver = f", driver {driver_version()}" if found else ""
    text = f"{found} visible{driver}" if found else "none visible; runs on this machine use CPU ranks"
    yield Finding(level="good" if found else "note", topic="GPUs", text=text)


def _processor() -> Iterator[Finding]:
    if multiplies_bf16():
        yield Finding(level="good", topic="processor", text="has fast bf16 matrix products, for CPU ranks")
    else:
        text = "has no bf16 instructions: bf16 on CPU ranks is many times slower than train.precision=fp32"
        yield Finding(level="note", topic="processor", text=text)


def _slurm() -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        yield Finding(
            level="note", topic="Slurm", text="command not found: sbatch; only slurm=local works here"
        )
        return
    try:
        yield Finding(level="good", topic="Slurm", text=" ".join(ping().split()))
        yield Finding(level="good", topic="partitions", text="; ".join(partitions()))
    except SlurmError as error:
        yield Finding(level="wrong", topic="Slurm", text=f"no answer: {error}")
        return
    if accounting_answers():
        yield Finding(level="good", topic="accounting", text="sacct answers")
    else:
        text = "sacct does not answer: the state of old jobs is taken from the run directory only"
        yield Finding(level="note", topic="accounting", text=text)


def _accounts() -> Iterator[Finding]:
    netrc = Path.home() / ".netrc"
    known = "WANDB_API_KEY" in os.environ or (netrc.exists() and "api.wandb.ai" in netrc.read_text())
    text = "an API key is set" if known else "no API key: use tracking=offline, or run: wandb login"
    yield Finding(level="good" if known else "note", topic="Weights & Biases", text=text)


def check_node(config: RunConfig) -> list[Finding]:
    """Submit a one-minute job and compare its node with this machine."""
    runs_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=runs_root()) as folder:
        root = Path(folder)
        name = f"shardline-doctor-{root.name.removeprefix('.doctor-')}"
        try:
            submit_slurm(_request(config, root, name), report_node, folder)
            report = _await_report(root / "report.json", name)
        except (SubmissionError, SlurmError) as error:
            return [Finding(level="wrong", topic="job", text=str(error))]
        finally:
            _cancel(name)
        if report is None:
            return [_no_report(root, name)]
    return list(_compare(report, facts_of_this_machine()))


def _request(config: RunConfig, root: Path, name: str) -> SlurmRequest:
    hardware = config.hardware
    slurm = config.slurm.model_copy(update={"time_min": 1, "signal_delay_s": 5, "requeue": False})
    default_gpus = (hardware.gpus_per_node or 0) if hardware.device == "cuda" else 0
    spec = JobSpec(
        name=name,
        nodes=1,
        ranks_per_node=hardware.gpus_per_node or 1,
        gpus_per_node=default_gpus if slurm.gpus_per_node is None else slurm.gpus_per_node,
        folder=root,
        code=Path(__file__).resolve().parents[2],
        python=sys.executable,
        tail=None,
    )
    return SlurmRequest(folder=root, script=batch_script(slurm, spec), nodes=1)


def report_node(folder: str) -> None:
    """Write the facts of this node into a folder. Runs in the job."""
    write_json(Path(folder) / "report.json", facts_of_this_machine())


def facts_of_this_machine() -> dict[str, Any]:
    """Return the name, devices and versions of this machine, to compare the login and compute nodes."""
    return {
        "host": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "python": platform.python_version(),
        "gpus": count_gpus(),
        "driver": driver_version(),
        **{name: version(name) for name in RECORDED},
    }


def _await_report(path: Path, name: str) -> dict[str, Any] | None:
    deadline = time.monotonic() + _NODE_WITHIN_S
    while time.monotonic() < deadline:
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        job = find_job(name)
        if job and job.phase == "ended" and not path.exists():
            return None
        time.sleep(_POLL_S)
    return None


def _no_report(root: Path, name: str) -> Finding:
    job = find_job(name)
    if job and job.phase == "waiting":
        return Finding(level="wrong", topic="job", text=f"did not start: {why_waiting(job)}")
    output = "\n".join(path.read_text()[-800:] for path in sorted(root.glob("*.out")))
    return Finding(
        level="wrong", topic="job", text=f"ended without a report: {output.strip() or 'no output'}"
    )


def _cancel(name: str) -> None:
    """Cancel the job. Errors are ignored: an earlier error is more useful, and the job ends in a minute."""
    with suppress(SlurmError):
        job = find_job(name)
        if job and job.phase != "ended":
            cancel(job.job_id)


def _compare(node: dict[str, Any], here: dict[str, Any]) -> Iterator[Finding]:
    text = f"{node['host']} ran the job, can write to {runs_root()} and has {node['gpus']} visible GPUs"
    driver = f", driver {node['driver']}" if node["driver"] else ""
    yield Finding(level="good", topic="node", text=text + driver)
    apart = [
        f"{name} is {node[name]} on the node and {here[name]} on this machine"
        for name in here
        if name not in ("host", "gpus", "driver") and node[name] != here[name]
    ]
    if apart:
        yield Finding(level="wrong", topic="versions", text="; ".join(apart))
    else:
        yield Finding(level="good", topic="versions", text=f"the same on both, with torch {node['torch']}")

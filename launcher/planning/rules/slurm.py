"""Rules about running on this machine or under Slurm. Slurm itself is asked last."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from launcher.planning.plan import place
from slurm.client import SlurmAwayError, SlurmError, would_accept
from slurm.config import SlurmConfig

_LOCAL_TOO = {"executor", "time_min", "signal_delay_s"}
_SAFE_PATH = re.compile(r"[A-Za-z0-9_/.+@=:,~ -]+")


def stays_local(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Check that a local run has no Slurm settings and fits on this machine."""
    if config.slurm.executor == "slurm":
        return
    given = config.slurm.model_dump(exclude=_LOCAL_TOO)
    defaults = SlurmConfig().model_dump(exclude=_LOCAL_TOO)
    for name in sorted(name for name, value in given.items() if value != defaults[name]):
        yield Problem(
            code="slurm.local",
            field=f"slurm.{name}",
            message=f"slurm.{name} has no effect with slurm.executor=local (found: {given[name]!r})",
            fix=f"set slurm=cluster to submit to Slurm, or remove slurm.{name}",
        )
    placement = place(config, facts)
    if placement.nodes > 1:
        yield Problem(
            code="hardware.nodes",
            field="hardware.nodes",
            message=f"hardware.nodes={placement.nodes} needs Slurm: the local executor runs on one node",
            fix="set hardware.nodes=1, or slurm=cluster to submit to Slurm",
        )
    if placement.device == "cuda" and placement.ranks_per_node > facts.visible_gpus:
        yield Problem(
            code="hardware.gpus",
            field="hardware.gpus_per_node",
            message=f"the config needs {placement.ranks_per_node} GPUs, but {facts.visible_gpus} are visible"
            " on this machine",
            fix="set hardware=local, or slurm=cluster to submit to Slurm",
        )


def goes_to_slurm(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that a config has all that a Slurm job needs."""
    slurm, hardware = config.slurm, config.hardware
    if slurm.executor != "slurm":
        return
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        yield Problem(
            code="slurm.commands",
            field="slurm.executor",
            message="sbatch or srun not found on this machine",
            fix="submit from a login node of the cluster, set slurm=local, or run: shardline devcluster up",
        )
    if hardware.device == "auto" or hardware.gpus_per_node is None:
        yield Problem(
            code="hardware.device",
            field="hardware",
            message="Slurm needs hardware.device and hardware.gpus_per_node: compute nodes may differ from"
            " this machine",
            fix="set hardware to a node type, such as hardware=h100x8, or set hardware.device=cpu"
            " hardware.gpus_per_node=2",
        )
    elif (
        hardware.device == "cuda" and (slurm.gpus_per_node or hardware.gpus_per_node) < hardware.gpus_per_node
    ):
        yield Problem(
            code="slurm.gpus",
            field="slurm.gpus_per_node",
            message=f"slurm.gpus_per_node={slurm.gpus_per_node} is too few for {hardware.gpus_per_node} ranks"
            " per node",
            fix=f"set slurm.gpus_per_node=null to request {hardware.gpus_per_node} GPUs",
        )
    if slurm.signal_delay_s >= slurm.time_min * 60:
        yield Problem(
            code="slurm.signal_delay",
            field="slurm.signal_delay_s",
            message=f"slurm.signal_delay_s={slurm.signal_delay_s} is not less than the time limit,"
            f" slurm.time_min={slurm.time_min} ({slurm.time_min * 60} s)",
            fix="raise slurm.time_min, or lower slurm.signal_delay_s",
        )
    yield from _paths(config)


def _paths(config: RunConfig) -> Iterator[Problem]:
    environment = config.slurm.environment
    if environment.kind != "venv" and environment.path is None:
        yield Problem(
            code="slurm.environment",
            field="slurm.environment.path",
            message=f"slurm.environment.kind={environment.kind} needs slurm.environment.path",
            fix="set slurm.environment.path to the environment or image",
        )
    python = Path(environment.path or "/") / "bin" / "python"
    if environment.kind in ("venv", "conda") and environment.path and not python.exists():
        yield Problem(
            code="slurm.environment",
            field="slurm.environment.path",
            message=f"no such file: {python}",
            fix="set slurm.environment.path to an environment on a file system that the nodes share",
        )
    if not _SAFE_PATH.fullmatch(config.runs_dir):
        yield Problem(
            code="runs_dir.name",
            field="runs_dir",
            message=f"Slurm cannot write logs below {config.runs_dir!r}: it interprets % and quotes in paths",
            fix="set runs_dir to a path of letters, digits, spaces and _/.+@=:,~-",
        )


def asks_the_queue(sbatch: str | None) -> Iterator[Problem]:
    """Let sbatch check a script without submitting it."""
    if sbatch is None or shutil.which("sbatch") is None:
        return
    try:
        would_accept(sbatch)
    except SlurmAwayError:
        # `submit` waits for the controller and reports its answer; a plan does not wait.
        return
    except SlurmError as error:
        yield Problem(
            code="slurm.refused",
            field="slurm",
            message=f"Slurm does not accept the job: {error}",
            fix="change the slurm settings; to list partitions: sinfo; to list accounts: sacctmgr show assoc",
        )

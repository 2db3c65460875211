"""What a config must meet to be sent to Slurm, or to stay on this machine; the queue itself is asked last."""

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
    """Settings that only a queue can honour, with the executor that has none."""
    if config.slurm.executor == "slurm":
        return
    given = config.slurm.model_dump(exclude=_LOCAL_TOO)
    defaults = SlurmConfig().model_dump(exclude=_LOCAL_TOO)
    for name in sorted(name for name, value in given.items() if value != defaults[name]):
        yield Problem(
            code="slurm.local",
            field=f"slurm.{name}",
            message=f"slurm.{name} has no effect with slurm.executor=local (found: {given[name]!r})",
            fix="choose slurm=cluster to submit to Slurm, or leave it out",
        )
    placement = place(config, facts)
    if placement.nodes > 1:
        yield Problem(
            code="hardware.nodes",
            field="hardware.nodes",
            message=f"the local executor has one node, hardware.nodes={placement.nodes}",
            fix="set hardware.nodes=1, or slurm=cluster",
        )
    if placement.device == "cuda" and placement.ranks_per_node > facts.visible_gpus:
        yield Problem(
            code="hardware.gpus",
            field="hardware.gpus_per_node",
            message=f"the config asks for {placement.ranks_per_node} GPUs, {facts.visible_gpus} visible here",
            fix="use hardware=local, or start where the GPUs are (slurm=cluster submits there)",
        )


def goes_to_slurm(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """What the job needs said before it can be sent."""
    slurm, hardware = config.slurm, config.hardware
    if slurm.executor != "slurm":
        return
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        yield Problem(
            code="slurm.commands",
            field="slurm.executor",
            message="sbatch and srun are not on this machine",
            fix="submit from a login node of the cluster, use slurm=local, or try: shardline devcluster up",
        )
    if hardware.device == "auto" or hardware.gpus_per_node is None:
        yield Problem(
            code="hardware.device",
            field="hardware",
            message="hardware.device and hardware.gpus_per_node have to be said under Slurm: this machine's"
            " own tell nothing of the nodes",
            fix="choose a machine, such as hardware=h100x8, or hardware.device=cpu hardware.gpus_per_node=2",
        )
    elif (
        hardware.device == "cuda" and (slurm.gpus_per_node or hardware.gpus_per_node) < hardware.gpus_per_node
    ):
        yield Problem(
            code="slurm.gpus",
            field="slurm.gpus_per_node",
            message=f"{hardware.gpus_per_node} ranks a node on {slurm.gpus_per_node} GPUs",
            fix="leave slurm.gpus_per_node=null",
        )
    if slurm.signal_delay_s >= slurm.time_min * 60:
        yield Problem(
            code="slurm.signal_delay",
            field="slurm.signal_delay_s",
            message=f"the run would be asked to stop {slurm.signal_delay_s} s before the end of its"
            f" {slurm.time_min} min",
            fix="set a larger slurm.time_min or a smaller slurm.signal_delay_s",
        )
    yield from _paths(config)


def _paths(config: RunConfig) -> Iterator[Problem]:
    environment = config.slurm.environment
    if environment.kind != "venv" and environment.path is None:
        yield Problem(
            code="slurm.environment",
            field="slurm.environment.path",
            message=f"slurm.environment.kind={environment.kind} needs the path of the environment or image",
            fix="set slurm.environment.path",
        )
    python = Path(environment.path or "/") / "bin" / "python"
    if environment.kind in ("venv", "conda") and environment.path and not python.exists():
        yield Problem(
            code="slurm.environment",
            field="slurm.environment.path",
            message=f"there is no {python}",
            fix="name the folder of an environment on a file system that the nodes share",
        )
    if not _SAFE_PATH.fullmatch(config.runs_dir):
        yield Problem(
            code="runs_dir.name",
            field="runs_dir",
            message=f"Slurm cannot write its logs below {config.runs_dir!r}: it reads % and quotes",
            fix="choose a path of letters, digits, spaces and _/.+@=:,~-",
        )


def asks_the_queue(sbatch: str | None) -> Iterator[Problem]:
    """Let sbatch itself look at a script, without submitting it."""
    if sbatch is None or shutil.which("sbatch") is None:
        return
    try:
        would_accept(sbatch)
    except SlurmAwayError:
        # submit waits for the controller and tells what it says; a plan cannot know better.
        return
    except SlurmError as error:
        yield Problem(
            code="slurm.refused",
            field="slurm",
            message=f"Slurm would not take the job: {error}",
            fix="change the slurm settings; sinfo lists partitions, sacctmgr show assoc your accounts",
        )

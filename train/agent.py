"""The node agent: starts one rank per GPU with torch's elastic agent, and starts them again when one dies.

Runs the same under Submitit's local executor and under Slurm; it learns where it stands from its caller.
"""

import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from train.failures import ExitCode, Failure, describe, read_failures, restart_in_place
from train.job import TrainJob, load_job
from train.rundir import read_lines, write_json
from train.signals import StopWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """Where this agent stands in the job."""

    node: int
    """0 speaks for the job."""
    nodes: int
    rendezvous: str
    """`host:port`; port 0 lets a single node take any free one."""
    token: str
    """Tells this start of the job from all others."""


def run_agent(root: Path, attempt: int, place: NodePlace, watch: StopWatch) -> ExitCode:
    """Run the ranks of this node until the run is finished, stopped or failed.

    Returns:
        What the job ends with; on node 0 the journal and result.json say the same.
    """
    job = load_job(root)
    restarts = 0
    while True:
        crash = _run_ranks(job, attempt, place, restarts)
        if crash is None:
            return _ended_as(job, attempt)
        since_progress = _restarts_since_checkpoint(job, attempt)
        again = not watch.reason and restart_in_place(crash.cause, restarts=since_progress)
        if place.node == 0:
            job.run_dir.log_event(
                "crashed",
                attempt=attempt,
                failure_class=crash.cause.failure_class if crash.cause else "killed",
                rank=crash.cause.rank if crash.cause else None,
                host=crash.cause.host if crash.cause else None,
                reason=crash.reason,
                then="restart" if again else "stop",
            )
        if not again:
            return _fail(job, attempt, place, crash)
        restarts += 1


@dataclass(frozen=True, slots=True)
class _Crash:
    """Ranks ended badly: the first cause that one of them left, and the reason in words."""

    cause: Failure | None
    reason: str


def _run_ranks(job: TrainJob, attempt: int, place: NodePlace, restarts: int) -> _Crash | None:
    """Start the ranks once and wait for them; None when all ended well."""
    logs = job.run_dir.attempt_logs(attempt)
    for old in logs.glob("failure_rank_*.json"):
        old.unlink()
    _rank_environment(job, attempt, restarts)
    try:
        _launch(job, place, restarts)
    except ChildFailedError as error:
        failures = read_failures(logs)
        cause = failures[0] if failures else None
        killed = _killed(error)
        if killed and (cause is None or cause.failure_class == "network"):
            return _Crash(cause, killed)
        return _Crash(cause, cause.message if cause else str(error.get_first_failure()[1].message))
    except Exception as error:  # noqa: BLE001 - whatever it is, the run must not end without a word
        return _Crash(
            describe(error, rank=-1, host=os.uname().nodename, time=time.time()), f"node agent: {error}"
        )
    return None


def _restarts_since_checkpoint(job: TrainJob, attempt: int) -> int:
    """Restarts that brought nothing: a week-long run may lose a rank now and then."""
    count = 0
    for row in read_lines(job.run_dir.events):
        if row["event"] in ("checkpoint", "submitted"):
            count = 0
        elif row["event"] == "crashed" and row["attempt"] == attempt:
            count += 1
    return count


def _launch(job: TrainJob, place: NodePlace, restarts: int) -> None:
    with tempfile.TemporaryDirectory(prefix="shardline-") as scratch:
        config = LaunchConfig(
            min_nodes=place.nodes,
            max_nodes=place.nodes,
            nproc_per_node=job.plan.ranks_per_node,
            run_id=f"{place.token}-{restarts}",
            role="rank",
            rdzv_backend="c10d",
            rdzv_endpoint=place.rendezvous,
            # A restart is a decision of ours, taken from the failure's class.
            max_restarts=0,
            monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            # The agent must not kill its ranks on SIGTERM: they have a checkpoint to write.
            signals_to_handle="SIGINT,SIGQUIT",
        )
        elastic_launch(config, sys.executable)("-u", "-m", "train.worker", str(job.run_dir.root))


def _rank_environment(job: TrainJob, attempt: int, restarts: int) -> None:
    cores = len(os.sched_getaffinity(0))
    os.environ |= {
        "SHARDLINE_ATTEMPT": str(attempt),
        "SHARDLINE_RESTART": str(restarts),
        "OMP_NUM_THREADS": str(max(1, cores // job.plan.ranks_per_node)),
        "TOKENIZERS_PARALLELISM": "false",
        # The plan checked that model and data are here: nothing may depend on a hub at run time.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    if job.plan.device == "cpu":
        os.environ |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _killed(error: ChildFailedError) -> str | None:
    """Which rank was killed from outside, if any: it comes before one that then lost its peer."""
    for rank, failure in error.failures.items():
        if failure.exitcode < 0:
            return f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    return None


def _fail(job: TrainJob, attempt: int, place: NodePlace, crash: _Crash) -> ExitCode:
    code = crash.cause.exit_code if crash.cause else ExitCode.RUN_FAILED
    if place.node == 0:
        write_json(
            job.run_dir.result,
            {
                "outcome": "FAILED",
                "attempts": attempt,
                "failure_class": crash.cause.failure_class if crash.cause else "killed",
                "why": crash.reason,
                "exit_code": int(code),
                "time": round(time.time(), 3),
            },
        )
    return code


def _ended_as(job: TrainJob, attempt: int) -> ExitCode:
    """Ranks end with 0 both when finished and when stopped; the journal tells which."""
    events = [row["event"] for row in read_lines(job.run_dir.events) if row.get("attempt") == attempt]
    return ExitCode.PREEMPTED if "preempted" in events else ExitCode.DONE

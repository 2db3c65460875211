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

import psutil
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from train.failures import ExitCode, Failure, read_failures, restart_in_place
from train.job import TrainJob, load_job
from train.rundir import read_lines, write_json
from train.signals import STOP_SIGNALS


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


def run_agent(root: Path, attempt: int, place: NodePlace) -> ExitCode:
    """Run the ranks of this node until the run is finished, stopped or failed.

    Returns:
        What the job ends with; on node 0 the journal and result.json say the same.
    """
    job = load_job(root)
    logs = job.run_dir.attempt_logs(attempt)
    _forward_stop_signals()
    restarts = 0
    while True:
        for old in logs.glob("failure_rank_*.json"):
            old.unlink()
        _rank_environment(job, attempt, restarts)
        try:
            _launch(job, place, restarts)
        except ChildFailedError as error:
            failures = read_failures(logs)
            cause = failures[0] if failures else None
            words = cause.message if cause and cause.failure_class != "network" else _killed(error)
            again = restart_in_place(cause, restarts=restarts)
            if place.node == 0:
                job.run_dir.log_event(
                    "crashed",
                    attempt=attempt,
                    failure_class=cause.failure_class if cause else "killed",
                    rank=cause.rank if cause else None,
                    host=cause.host if cause else None,
                    reason=words,
                    then="restart" if again else "stop",
                )
            if not again:
                return _fail(job, attempt, place, cause, words)
            restarts += 1
            continue
        return _ended_as(job, attempt)


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


def _forward_stop_signals() -> None:
    """Pass a stop on to the ranks; under Slurm they get it themselves too, and once is as good as twice."""

    def forward(number: int, _frame: object) -> None:
        for child in psutil.Process().children():
            child.send_signal(number)

    for number in STOP_SIGNALS:
        signal.signal(number, forward)


def _killed(error: ChildFailedError) -> str:
    """What the operating system knows; a rank that was killed comes before one that then lost its peer."""
    for rank, failure in error.failures.items():
        if failure.exitcode < 0:
            return f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    rank, failure = error.get_first_failure()
    return f"rank {rank} ended with exit code {failure.exitcode}"


def _fail(job: TrainJob, attempt: int, place: NodePlace, cause: Failure | None, words: str) -> ExitCode:
    code = cause.exit_code if cause else ExitCode.RUN_FAILED
    if place.node == 0:
        write_json(
            job.run_dir.result,
            {
                "outcome": "FAILED",
                "attempts": attempt,
                "failure_class": cause.failure_class if cause else "killed",
                "why": words,
                "exit_code": int(code),
                "time": round(time.time(), 3),
            },
        )
    return code


def _ended_as(job: TrainJob, attempt: int) -> ExitCode:
    """Ranks end with 0 both when finished and when stopped; the journal tells which."""
    events = [row["event"] for row in read_lines(job.run_dir.events) if row.get("attempt") == attempt]
    return ExitCode.PREEMPTED if "preempted" in events else ExitCode.DONE

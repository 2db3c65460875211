"""What is submitted: a path. This runs on a compute node and hands over to the node agent."""

import os
import sys
import time
from pathlib import Path

import psutil

from slurm.environment import local_place
from train.rundir import RunDir, append_line
from train.signals import StopWatch, die_with_parent

VISIBLE_DEVICES = "SHARDLINE_CUDA_VISIBLE_DEVICES"
"""Carries the user's own choice of GPUs past the executor."""


def run_node(root: str) -> None:
    """Entry of the job's one task per node; leaves with the run's exit code."""
    die_with_parent()
    watch = StopWatch()
    watch.start()
    _restore_visible_devices()
    place = local_place(os.environ)
    run = RunDir(Path(root))
    record_job(run, place.job_id)
    attempt = claim_attempt(run, place.start)
    from train.agent import NodePlace, run_agent

    node = NodePlace(
        node=place.node,
        nodes=place.nodes,
        rendezvous="localhost:0",
        token=f"{run.root.name}-{place.start}",
    )
    sys.exit(int(run_agent(run.root, attempt, node, watch)))


def _restore_visible_devices() -> None:
    """Submitit's local executor names the first N GPUs, whichever ones the user had chosen."""
    chosen = os.environ.pop(VISIBLE_DEVICES, None)
    if chosen is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def record_job(run: RunDir, job_id: str) -> None:
    """Note which job works on a run. Submit and job both do: a kill between them loses neither."""
    try:
        started = psutil.Process(int(job_id)).create_time()
    except psutil.NoSuchProcess:
        started = None
    append_line(
        run.jobs,
        {
            "time": round(time.time(), 3),
            "job_id": job_id,
            "executor": "local",
            "host": os.uname().nodename,
            # Tells the process from a later one that got the same number.
            "started": started,
        },
    )


def claim_attempt(run: RunDir, start: str) -> int:
    """Number of this start: the next free one, and the same for every node of the same start."""
    number = 1
    while True:
        logs = run.attempt_logs(number)
        token = logs / "start"
        try:
            logs.mkdir(mode=0o700)
        except FileExistsError:
            if token.is_file() and token.read_text() == start:
                return number
            number += 1
            continue
        token.write_text(start)
        return number

"""A run of Shardline: composed, planned and frozen as by `submit`, with its ranks started here."""

import math
import os
import tempfile
import time
from pathlib import Path

from benchmarks.arms.task import Task, Trace
from benchmarks.ranks import run_ranks
from benchmarks.runs import freeze_run
from train.journal.events import Validated
from train.journal.reading import newest, read_journal
from train.metrics import latest_by_step, read_metrics
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest
from train.rundir import RunDir


def train(task: Task, *extra: str) -> Trace:
    """Train the task in a new run directory, with additional overrides."""
    run = plan_run(task, *extra)
    began_s = time.time()
    start_ranks(run, task.ranks, attempt=1)
    return trace_of(run, began_s)


def plan_run(task: Task, *extra: str) -> RunDir:
    """Create a run directory as `submit` does.

    Raises:
        Refused: The plan has problems.
    """
    runs = Path(tempfile.mkdtemp(dir=task.folder, prefix="runs-"))
    os.environ["SHARDLINE_RUNS"] = str(runs)
    return freeze_run(
        [
            "experiment=smoke",
            f"model.source=path:{task.model}",
            "model.init=pretrained",
            f"data.train={task.train}",
            f"data.validation={task.held_out}",
            "data.test=null",
            "data.format=text",
            f"data.max_length={task.length}",
            f"data.packing={task.arranged == 'packed'}",
            f"data.group_by_length={task.arranged == 'grouped'}",
            f"train.micro_batch_size={task.micro_batch_size}",
            f"train.global_batch_size={task.micro_batch_size * task.ranks}",
            f"train.max_steps={task.steps}",
            f"train.precision={task.precision}",
            f"hardware.gpus_per_node={task.ranks}",
            f"hardware.device={task.device}",
            f"model.attention={task.attention}",
            f"optim.lr={task.lr}",
            "optim.schedule=constant",
            "optim.warmup_steps=0",
            f"zero.stage={task.stage}",
            "checkpoint.every_steps=null",
            "eval.base=false",
            "eval.general=null",
            "eval.num_samples=0",
            *extra,
        ]
    )


def start_ranks(run: RunDir, ranks: int, *, attempt: int) -> None:
    """Start the ranks as a node agent does, but without a watchdog."""
    logs = run.attempt_logs(attempt)
    logs.mkdir(parents=True, exist_ok=True)
    run_ranks(_rank, ranks, run, attempt, log=logs / "ranks.log")


def trace_of(run: RunDir, begun_s: float) -> Trace:
    """Return the trace of a run from its metrics and its journal."""
    rows = [row for row in latest_by_step(read_metrics(run)) if row.time > begun_s]
    totals = [row.tokens for row in rows]
    check = newest(read_journal(run.events), Validated)
    return Trace(
        begun_s=begun_s,
        ends_s=[row.time for row in rows],
        losses=[math.nan if row.loss is None else row.loss for row in rows],
        tokens=[now - before for before, now in zip([0, *totals[:-1]], totals, strict=True)],
        held_out_loss=check.loss if check else None,
        peak_gb=max(row.peak_memory_gb or 0.0 for row in rows),
    )


def _rank(run: RunDir, attempt: int) -> None:
    from train.rank.setup import run_rank

    heart = Heartbeat(run.attempt_logs(attempt), int(os.environ["RANK"]))
    run_rank(run, attempt, StopRequest(), heart)

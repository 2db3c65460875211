"""Rehearse a long job: compare a short uninterrupted training with the same training interrupted."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from launcher.compose.run import Composed, compose_change
from launcher.errors import Refused, refuse
from launcher.lifecycle.submit import resume_run, submit_run
from launcher.records.runs import name_to_type
from launcher.status.queue import RecentView
from launcher.status.runs import read_status
from train.failures import ExitCode
from train.faults import FAULT_VARIABLE
from train.job import read_training_plan
from train.journal.events import Crashed, Preempted, TrainingResumed
from train.journal.reading import attempts_in, of_kind, read_journal
from train.measure.wandb_files import recorded_steps
from train.metrics import latest_by_step, read_metrics, read_trace
from train.rundir import RunDir

_POLL_S = 0.1
ProgressReport = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One comparison of the two runs."""

    name: str
    equal: bool
    detail: str


def rehearse(
    composed: Composed, *, steps: int, within_min: float, report_progress: ProgressReport
) -> list[Item]:
    """Train twice with the user's config and hardware; the second run is stopped once and killed once.

    Args:
        composed: The config to rehearse.
        steps: Number of steps of each run.
        within_min: Minutes after which the rehearsal fails.
        report_progress: Called with a line of text at each stage.

    Raises:
        Refused: The config is refused, or one of the runs did not finish.
    """
    deadline = time.monotonic() + within_min * 60
    drill = f"rehearse-{int(time.time())}"
    unbroken = _start(_short(composed, f"{drill}-unbroken", steps))
    _until(unbroken, ("COMPLETED",), deadline, report_progress, "unbroken")
    stop_at, kill_at = max(1, steps // 3), max(2, 2 * steps // 3)
    faults = f"term@forward:rank=0:step={stop_at};kill9@backward:rank=0:step={kill_at}:attempt=2"
    with _environment(FAULT_VARIABLE, faults):
        broken = _start(_short(composed, f"{drill}-broken", steps))
        # A Slurm job is requeued automatically, so it may be completed already.
        _until(broken, ("COMPLETED", "PREEMPTED"), deadline, report_progress, f"stopped in step {stop_at}")
        resume_run(broken)
    _until(broken, ("COMPLETED",), deadline, report_progress, f"resumed, killed in step {kill_at}")
    return compare(unbroken, broken)


def compare(unbroken: RunDir, broken: RunDir) -> list[Item]:
    """Compare an uninterrupted and an interrupted run."""
    curves = [latest_by_step(read_metrics(run)) for run in (unbroken, broken)]
    traces = [latest_by_step(read_trace(run)) for run in (unbroken, broken)]
    exact = read_training_plan(unbroken).device == "cpu"
    losses = [[math.nan if row.loss is None else row.loss for row in curve] for curve in curves]
    journal = read_journal(broken.events)
    attempts = attempts_in(journal)[-1]
    resumed, stopped, killed = (len(of_kind(journal, kind)) for kind in (TrainingResumed, Preempted, Crashed))
    return [
        _same("steps", [[row.step for row in curve] for curve in curves]),
        _same("sample ids", [[row.sample_ids for row in trace] for trace in traces]),
        _same("learning rates", [[row.lr for row in curve] for curve in curves]),
        _same("tokens", [[row.tokens for row in curve] for curve in curves]),
        _same("random numbers", [[row.random for row in trace] for trace in traces]),
        _same("W&B steps", [sorted(recorded_steps(run.root)) for run in (unbroken, broken)]),
        _close("losses", losses[0], losses[1], exact=exact),
        Item(
            name="interruptions",
            equal=(stopped, killed, resumed) == (1, 1, 2),
            detail=f"stops: {stopped}, kills: {killed}, resumes: {resumed}, attempts: {attempts}",
        ),
    ]


def _short(composed: Composed, name: str, steps: int) -> Composed:
    every = max(1, steps // 6)
    return compose_change(
        composed.yaml,
        [
            f"name={name}",
            f"train.max_steps={steps}",
            "train.epochs=null",
            "train.max_tokens=null",
            "train.trace=true",
            "train.log_every_steps=1",
            f"checkpoint.every_steps={every}",
            f"optim.warmup_steps={min(composed.config.optim.warmup_steps, steps // 2)}",
            "eval.base=false",
            "eval.num_samples=0",
            "eval.patience=null",
            "data.test=null",
            "eval.general=null",
            "tracking.wandb=offline",
        ],
    )


def _start(composed: Composed) -> RunDir:
    return submit_run(composed).run


def _until(
    run: RunDir, states: Sequence[str], deadline: float, report_progress: ProgressReport, what: str
) -> None:
    report_progress(f"{run.root.name}: {what}")
    recent = RecentView()
    while (status := read_status(run, recent.look)).state not in states:
        if status.state == "FAILED" or time.monotonic() > deadline:
            late = f"still {status.state.lower()} at the time limit ({status.why})"
            raise _gave_up(run, status.why if status.state == "FAILED" else late)
        time.sleep(_POLL_S)


def _gave_up(run: RunDir, why: str) -> Refused:
    fix = f"shardline logs {name_to_type(run)}"
    return refuse(
        "rehearse.failed", "RUN", f"{run.root.name} did not finish: {why}", fix, ExitCode.RUN_FAILED
    )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _same(name: str, pair: Sequence[Sequence[object]]) -> Item:
    first, second = pair
    where = next((n for n, (a, b) in enumerate(zip(first, second, strict=False), 1) if a != b), None)
    equal = len(first) == len(second) and where is None
    detail = (
        f"{len(first)} equal"
        if equal
        else f"different from step {where or min(len(first), len(second)) + 1} on"
    )
    return Item(name=name, equal=equal, detail=detail)


def _close(name: str, first: Sequence[float], second: Sequence[float], *, exact: bool) -> Item:
    """Compare floating-point values: exactly on CPUs, with a tolerance on GPUs, where sums vary in order."""
    worst = max((abs(a - b) for a, b in zip(first, second, strict=False)), default=0.0)
    tolerance = 0.0 if exact else 1e-3
    equal = len(first) == len(second) and worst <= tolerance
    return Item(name=name, equal=equal, detail=f"largest difference {worst:.2g} (allowed {tolerance:g})")

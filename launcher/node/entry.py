"""Entry point of a job on each compute node. It gets the path of the run and calls the node agent."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from launcher.records.history import silent_end, stalled_attempts
from launcher.records.jobs import latest_name, record_job
from slurm.environment import TaskPlace, task_place
from slurm.requeue import ATTEMPTS_WITHOUT_PROGRESS
from train.failures import NODE_NAME_VARIABLE, ExitCode
from train.journal.events import AskedToStop, AttemptBegun, GaveUp, Preempted, Superseded
from train.journal.reading import attempts_in, read_journal, step_saved
from train.node.agent import NodePlace, run_agent
from train.node.signals import StopWatch, die_with_parent
from train.result import Failed, Finished, read_result, write_result
from train.rundir import STOPPED_BY_USER, RunDir

VISIBLE_DEVICES = "SHARDLINE_CUDA_VISIBLE_DEVICES"
"""Variable with the user's CUDA_VISIBLE_DEVICES, which the local executor overwrites."""


def run_node(root: str) -> None:
    """Run the node agent of this node, and exit with the exit code of the run."""
    die_with_parent()
    run = RunDir(Path(root))
    run.adopt_umask()
    watch = StopWatch(run.stop_request, lambda reason: run.log(AskedToStop(reason=reason, pid=os.getpid())))
    watch.start()
    restore_visible_devices()
    place = task_place(os.environ)
    if place.node_name:
        os.environ[NODE_NAME_VARIABLE] = place.node_name
    if place.node == 0:
        record_job(run, place.job_id, place.job_name)
    if (code := _settled(run, place)) is not None:
        sys.exit(int(code))
    attempt = claim_attempt(run, place)
    node = NodePlace(
        node=place.node,
        nodes=place.nodes,
        token=f"{run.root.name}-{place.start}",
        requeues=place.job_name is not None,
    )
    code = run_agent(run.root, attempt, node, watch)
    # Exit at once: a teardown could hang on threads and on sockets of peers that have ended.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


def _settled(run: RunDir, place: TaskPlace) -> ExitCode | None:
    """Return an exit code if there is nothing to do, as Slurm may restart a job that should not run.

    Every node checks this; node 0 records the reason.
    """
    if place.job_name and place.job_name != latest_name(run):
        if place.node == 0:
            run.log(Superseded(job_id=place.job_id))
        return ExitCode.RUN_FAILED
    if result := read_result(run):
        return ExitCode.DONE if isinstance(result, Finished) else ExitCode.RUN_FAILED
    if place.node == 0:
        stalled = stalled_attempts(read_journal(run.events))
        if len(stalled) >= ATTEMPTS_WITHOUT_PROGRESS:
            give_up(run, "; ".join(attempt.ended or silent_end(attempt) for attempt in stalled))
            return ExitCode.NO_PROGRESS
    if run.stop_request.exists():
        if place.node == 0:
            _note_stop(run)
        return ExitCode.PREEMPTED
    return None


def _note_stop(run: RunDir) -> None:
    """Record a stop that was requested while the job was pending."""
    journal = read_journal(run.events)
    attempt = max(attempts_in(journal), default=0)
    run.log(Preempted(attempt=attempt, step=step_saved(journal) or 0, reason=STOPPED_BY_USER))


def give_up(run: RunDir, causes: str) -> None:
    """Record a run without progress as failed, with the reasons of its attempts."""
    why = f"{ATTEMPTS_WITHOUT_PROGRESS} attempts in a row saved no checkpoint: {causes}"
    run.log(GaveUp(reason=why))
    write_result(run, Failed(reason=why, failure_class="no_progress", exit_code=ExitCode.NO_PROGRESS))


def restore_visible_devices() -> None:
    """Restore the user's CUDA_VISIBLE_DEVICES, which Submitit's local executor sets to the first N GPUs."""
    chosen = os.environ.pop(VISIBLE_DEVICES, None)
    if chosen is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def claim_attempt(run: RunDir, place: TaskPlace) -> int:
    """Return the number of this attempt: the next free one, the same on all nodes of this start."""
    staged = run.logs / f".new_{place.start}_{place.node}"
    staged.mkdir(exist_ok=True)
    (staged / "start").write_text(place.start)
    number = 1
    while True:
        logs = run.attempt_logs(number)
        with suppress(OSError):
            # The rename fails if the directory exists, so only the first node of a start succeeds.
            staged.rename(logs)
            run.log(AttemptBegun(attempt=number, job_id=place.job_id, nodes=place.node_list))
            return number
        if (logs / "start").read_text() == place.start:
            shutil.rmtree(staged)
            return number
        number += 1

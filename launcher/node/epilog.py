"""Decide at the end of a batch script whether the job ends or is requeued.

`python -m launcher.node.epilog RUN|SWEEP` runs after srun, even if ranks and agents crashed, and reads the
records that they wrote. It does not import torch.
"""

import os
import signal
import sys
from pathlib import Path

from launcher.node.entry import give_up
from launcher.node.trial import trial_at
from launcher.records.history import attempts_of, silent_end, stalled_attempts, unfit_nodes
from launcher.records.runs import load_config
from launcher.records.sweeps import SweepDir
from slurm.client import SlurmError, requeue, state_of
from slurm.environment import job_id_here, task_place
from slurm.requeue import Ending, GiveUp, Leave, Requeue, decide
from train.failures import ExitCode
from train.journal.events import Requeued, RequeueFailed
from train.journal.reading import read_journal
from train.result import Failed, read_result, write_result
from train.rundir import RunDir


def main() -> None:
    """Decide, act, and exit with the exit code of the run."""
    # Slurm ends all processes of a requeued job; this one must finish first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = _run_of(Path(sys.argv[1]))
    run.adopt_umask()
    job_id = job_id_here(os.environ)
    config = load_config(run).slurm
    decision = decide(_ending(run, job_id, may_requeue=config.requeue))
    if isinstance(decision, GiveUp):
        give_up(run, decision.causes)
    elif isinstance(decision, Requeue):
        _requeue(run, job_id, config.exclude)
    sys.exit(int(_exit_code(run, decision)))


def _run_of(root: Path) -> RunDir:
    """Return the run of this job: the given directory, or the trial of this element of a sweep's array."""
    sweep = SweepDir(root)
    if not sweep.exists():
        return RunDir(root)
    name = trial_at(sweep, task_place(os.environ))
    if name is None:
        sys.exit(0)
    if not sweep.run(name).root.exists():
        sys.exit(int(ExitCode.RUN_FAILED))
    return sweep.run(name)


def _ending(run: RunDir, job_id: str, *, may_requeue: bool) -> Ending:
    events = read_journal(run.events)
    attempts = [attempt for attempt in attempts_of(events) if attempt.job_id == job_id]
    stalled = stalled_attempts(events)
    record = state_of(job_id)
    return Ending(
        over=run.result.exists(),
        stopped_for_good=bool(attempts) and attempts[-1].stopped_for_good,
        # A job that reached its time limit is not requeued for that reason.
        taken_away=record is not None and record.state != "RUNNING" and record.reason != "TimeLimit",
        stalled=len(stalled),
        reasons=[attempt.ended or silent_end(attempt) for attempt in stalled],
        may_requeue=may_requeue,
    )


def _requeue(run: RunDir, job_id: str, exclude: str | None) -> None:
    unfit = unfit_nodes(read_journal(run.events))
    run.log(Requeued(job_id=job_id, without=unfit))
    try:
        requeue(job_id, [*([exclude] if exclude else []), *unfit] if unfit else [])
    except SlurmError as error:
        why = f"Slurm did not requeue the job: {error}"
        run.log(RequeueFailed(job_id=job_id, reason=why))
        write_result(run, Failed(reason=why, failure_class="node"))


def _exit_code(run: RunDir, decision: Requeue | Leave | GiveUp) -> ExitCode:
    result = read_result(run)
    return result.exit_code if result else ExitCode.PREEMPTED


if __name__ == "__main__":
    main()

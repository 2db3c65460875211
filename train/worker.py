"""One rank: forked from a process that has called `preload`, or `python -m train.worker RUN_DIR RANK`.

Slow imports such as torch come after the signal handlers, so that a stop during the start is not lost. The
process that starts the ranks (`train/node/forkserver.py`) has redirected their output to their logs.
"""

import faulthandler
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from train.failures import Failure, describe
from train.node.heartbeat import HEARTBEAT_VARIABLE, Heartbeat
from train.node.signals import StopRequest, die_with_parent
from train.node.watchdog import DUMP_SIGNAL
from train.rank.gc_policy import frozen_imports
from train.rank.lean_imports import leave_out_detection_losses
from train.rank_environment import RankStart
from train.rundir import RunDir


def preload(run_dir: str) -> None:
    """Import the modules that ranks need, in the process that they are forked from.

    Raises:
        RuntimeError: An import initialised CUDA, which cannot be used in a forked process.
    """
    with frozen_imports():
        leave_out_detection_losses()
        from train.rank.preload import import_for

        import_for(Path(run_dir))


def main(arguments: Sequence[str]) -> None:
    """Run this rank and exit without cleanup, which could hang if other ranks have failed."""
    run_dir, rank = RunDir(Path(arguments[0])), int(arguments[1])
    attempt = RankStart.from_environ(os.environ).attempt
    logs = run_dir.attempt_logs(attempt)
    stop = StopRequest()
    stop.install()
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    heart = Heartbeat(Path(os.environ[HEARTBEAT_VARIABLE]), rank)
    failure: Failure | None = None
    try:
        with frozen_imports():
            leave_out_detection_losses()
            from train.rank.setup import run_rank

        run_rank(run_dir, attempt, stop, heart)
    except BaseException as error:  # noqa: BLE001 - the agent decides from the written failure
        failure = describe(error, rank=rank, time=time.time())
        failure.write(logs / f"failure_rank_{rank}.json")
        print(failure.detail, file=sys.stderr)  # noqa: T201 - stderr is the rank's log
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failure.exit_code if failure else 0)


if __name__ == "__main__":
    main(sys.argv[1:])

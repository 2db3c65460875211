"""One rank: `python -m train.worker RUN_DIR`, started by the node agent.

Imports of torch and its like wait until output is redirected and signals are handled, so that nothing a
start does can be lost.
"""

import faulthandler
import os
import sys
import time
from pathlib import Path

from train.failures import Failure, describe
from train.node.heartbeat import HEARTBEAT_VARIABLE, Heartbeat
from train.node.signals import StopRequest, die_with_parent
from train.node.watchdog import DUMP_SIGNAL
from train.rank.gc_policy import frozen_imports
from train.rank.lean_imports import leave_out_detection_losses
from train.rank_environment import RankStart
from train.rundir import RunDir


def main() -> None:
    """Run this rank and exit hard: a teardown must not hang on peers that are gone."""
    run_dir = RunDir(Path(sys.argv[1]))
    rank = int(os.environ["RANK"])
    attempt = RankStart.from_environ(os.environ).attempt
    logs = run_dir.attempt_logs(attempt)
    stop = StopRequest()
    stop.install()
    die_with_parent()
    _redirect_output(logs / f"rank_{rank}.log")
    heart = Heartbeat(Path(os.environ[HEARTBEAT_VARIABLE]), rank)
    failure: Failure | None = None
    try:
        with frozen_imports():
            leave_out_detection_losses()
            from train.rank.setup import run_rank

        run_rank(run_dir, attempt, stop, heart)
    except BaseException as error:  # noqa: BLE001 - the agent decides from what is written here
        failure = describe(error, rank=rank, time=time.time())
        failure.write(logs / f"failure_rank_{rank}.json")
        print(failure.detail, file=sys.stderr)  # noqa: T201 - stderr is the rank's log
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failure.exit_code if failure else 0)


def _redirect_output(path: Path) -> None:
    """Send everything this process prints, C libraries included, to the rank's log."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL, all_threads=True)


if __name__ == "__main__":
    main()

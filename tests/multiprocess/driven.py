"""Runs whose ranks the test starts itself: planned and frozen by `submit`, without Submitit and agent.

For all that is decided on the ranks. What the command, the controller and the agent do is tested with
`runs.py`, by whole commands.
"""

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest import mock

import psutil

from launcher.lifecycle import submit
from launcher.node.entry import claim_attempt
from launcher.records.jobs import record_intent, record_job
from launcher.status.runs import RunStatus
from slurm.environment import TaskPlace
from tests.multiprocess.forked import Forked, be_rank, free_port, rank_environ
from tests.multiprocess.runs import Run, call
from train.failures import Failure, first_cause, read_failures
from train.faults import FAULT_VARIABLE as FAULTS
from train.job import load_job
from train.journal.events import Submitted
from train.kernels.ops import extensions_folder
from train.node.heartbeat import HEARTBEAT_VARIABLE as HEARTBEATS
from train.rank_environment import RankStart
from train.rundir import RunDir

_WITHIN_S = 900.0


class DrivenRun(Run):
    """A run whose ranks are children of this process's fork server."""

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__(run_dir)
        self.attempt = 0
        self.restart = 0
        self._ranks: Forked | None = None

    def ranks(self) -> list[psutil.Process]:
        """The rank processes, which may have ended."""
        assert self._ranks, "no ranks were started"
        return self._ranks.processes()

    def ended(self) -> list[int]:
        """Wait for all ranks; their exit codes, negative for a signal."""
        assert self._ranks, "no ranks were started"
        try:
            return self._ranks.codes(_WITHIN_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.logs()[-3000:]}") from error

    def completed(self) -> "DrivenRun":
        """Wait for a good end."""
        codes = self.ended()
        assert not any(codes), f"{codes}\n{self.logs()[-3000:]}"
        assert self.status.state == "COMPLETED", self.status
        return self

    def stopped(self) -> RunStatus:
        """Wait until the ranks have agreed to stop."""
        codes = self.ended()
        assert not any(codes), f"{codes}\n{self.logs()[-3000:]}"
        assert self.status.state == "PREEMPTED", self.status
        return self.status

    def failed(self) -> Failure:
        """Wait for a failure; what the ranks wrote down about it."""
        assert any(self.ended()), "no rank failed"
        failure = first_cause(read_failures(self.dir.attempt_logs(self.attempt)))
        assert failure, f"no rank wrote why it failed\n{self.logs()[-3000:]}"
        return failure

    def stop(self, number: signal.Signals = signal.SIGUSR2, rank: int = 0) -> RunStatus:
        """Signal one rank and wait until all have stopped."""
        self.ranks()[rank].send_signal(number)
        return self.stopped()

    def start_again(self, *, faults: str = "") -> "DrivenRun":
        """Start the ranks of the same attempt once more, as the agent does in place."""
        self.ended()
        self.restart += 1
        self._start({FAULTS: faults} if faults else {})
        return self

    def begin_next(self, *words: str, until: int | None = None, faults: str = "") -> str:
        """`shardline resume RUN WORDS`, here; with `until` the ranks stop after that step.

        Returns:
            What the command printed.
        """
        with _started_here({}, self, until, faults):
            done = call("resume", str(self.dir.root), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def go_on(self, *words: str, until: int | None = None) -> str:
        """As `begin_next`, and wait for the end: a good one, or the stop."""
        printed = self.begin_next(*words, until=until)
        if until is None:
            self.completed()
        else:
            self.stopped()
        return printed

    def begin(self, environ: Mapping[str, str], until: int | None, faults: str) -> str:
        """The next attempt; returns the id of its job."""
        number = f"{os.getpid()}.{self.attempt}"
        place = TaskPlace(
            job_id=number, node=0, nodes=1, start=number, node_name=None, node_list=None, job_name=None
        )
        self.attempt, self.restart = claim_attempt(self.dir, place), 0
        if until is not None:
            faults = f"{faults};term@forward:step={until}:attempt={self.attempt}"
        self._start({**environ, FAULTS: faults} if faults else environ)
        return str(self.ranks()[0].pid)

    def _start(self, environ: Mapping[str, str]) -> None:
        world_size, port = load_job(self.dir.root).plan.ranks_per_node, free_port()
        for old in self.dir.attempt_logs(self.attempt).glob("failure_rank_*.json"):
            old.unlink()
        of_this_start = {
            HEARTBEATS: tempfile.mkdtemp(prefix="shardline-"),
            **RankStart(attempt=self.attempt, restart=self.restart).as_environ(),
            "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
        }
        logs, ranks = self.dir.attempt_logs(self.attempt), range(world_size)
        self._ranks = Forked(
            be_rank,
            [(self.dir,) for _ in ranks],
            [{**rank_environ(rank, world_size, port), **environ, **of_this_start} for rank in ranks],
            [logs / f"rank_{rank}.log" for rank in ranks],
        )


def start(
    *overrides: str, until: int | None = None, faults: str = "", environ: Mapping[str, str] | None = None
) -> DrivenRun:
    """`shardline submit OVERRIDES`, here; with `until` the ranks stop after that step."""
    with _started_here(environ or {}, None, until, faults) as started:
        done = call("submit", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return started[0]


def finish(*overrides: str, faults: str = "", environ: Mapping[str, str] | None = None) -> DrivenRun:
    """As `start`, and wait for a good end."""
    return start(*overrides, faults=faults, environ=environ).completed()


@contextmanager
def _started_here(
    environ: Mapping[str, str], known: DrivenRun | None, until: int | None, faults: str
) -> Iterator[Sequence[DrivenRun]]:
    """Let `submit` and `resume` start the ranks instead of a job."""
    started: list[DrivenRun] = []

    def start_job(run_dir: RunDir, stop_at_step: int | None = None) -> str:
        run = known or DrivenRun(run_dir)
        run_dir.ask_to_pause(stop_at_step)
        record_intent(run_dir, "local", None)
        run_dir.log(Submitted(executor="local", host=os.uname().nodename))
        job_id = run.begin(environ, until, faults)
        record_job(run_dir, job_id, None)
        started.append(run)
        return job_id

    with mock.patch.object(submit, "start_job", start_job):
        yield started

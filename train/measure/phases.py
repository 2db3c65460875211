"""The current phase of a rank, and the duration of each phase of its start. Torch-free."""

import logging
import os
import time
from pathlib import Path

from train.journal.events import PhaseBegun, StartTimed
from train.journal.phases import Phase
from train.node.forkserver import IMPORT_S_VARIABLE
from train.node.heartbeat import Heartbeat
from train.observer import StepDone, StepObserver
from train.rank_environment import RankStart
from train.rundir import RunDir

logger = logging.getLogger(__name__)


class PhaseTimer(StepObserver):
    """Reports each phase to the watchdog and, on rank 0, to the journal; times the start."""

    def __init__(self, run_dir: RunDir, heart: Heartbeat, start: RankStart, *, main: bool) -> None:
        """Begin with the phase `imports`, which started with the process.

        Args:
            run_dir: Run directory with the journal.
            heart: Heartbeat for the watchdog.
            start: The current attempt and start.
            main: Whether this is rank 0, which writes the journal.
        """
        self._run_dir = run_dir
        self._heart = heart
        self._start = start
        self._main = main
        before_s = process_age_s() + float(os.environ.get(IMPORT_S_VARIABLE, "0"))
        self._begun: list[tuple[Phase, float]] = [(Phase.IMPORTS, time.monotonic() - before_s)]
        self._starting = True

    def begin(self, phase: Phase) -> None:
        """Begin a phase."""
        self._heart.beat(phase)
        if self._starting:
            self._begun.append((phase, time.monotonic()))
        if self._main:
            self._run_dir.log(PhaseBegun(attempt=self._start.attempt, phase=phase))

    def after(self, done: StepDone) -> None:
        """End the start after the first step, and write its times to journal and log."""
        if not self._starting:
            return
        self._starting = False
        seconds = phase_seconds(self._begun, time.monotonic())
        if Phase.TRAIN in seconds:
            seconds[Phase.FIRST_STEP] = seconds.pop(Phase.TRAIN)
        if self._main:
            self._run_dir.log(
                StartTimed(
                    attempt=self._start.attempt,
                    restart=self._start.restart,
                    seconds=seconds,
                    total_s=round(sum(seconds.values()), 3),
                )
            )
            parts = ", ".join(f"{phase} {spent:.2f}" for phase, spent in seconds.items())
            logger.info("start to first step: %.2f s: %s", sum(seconds.values()), parts)


def phase_seconds(begun: list[tuple[Phase, float]], now_s: float) -> dict[Phase, float]:
    """Return the duration of each phase, in order; repeated phases are summed.

    Args:
        begun: Phases with the time at which each began.
        now_s: The time at which the last phase ended.
    """
    seconds: dict[Phase, float] = {}
    ends = [at_s for _, at_s in begun[1:]] + [now_s]
    for (phase, at_s), end_s in zip(begun, ends, strict=True):
        seconds[phase] = round(seconds.get(phase, 0.0) + end_s - at_s, 3)
    return seconds


def process_age_s() -> float:
    """Return the seconds since this process was forked; exec does not reset this time."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s

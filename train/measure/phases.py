"""What a rank does now, and how long its start took, phase by phase. Torch-free."""

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
    """Reports to the watchdog and, on rank 0, to the journal which phase begins; times the start."""

    def __init__(self, run_dir: RunDir, heart: Heartbeat, start: RankStart, *, main: bool) -> None:
        """Count all time before the first phase as imports."""
        self._run_dir = run_dir
        self._heart = heart
        self._start = start
        self._main = main
        before_s = process_age_s() + float(os.environ.get(IMPORT_S_VARIABLE, "0"))
        self._begun: list[tuple[Phase, float]] = [(Phase.IMPORTS, time.monotonic() - before_s)]
        self._starting = True

    def begin(self, phase: Phase) -> None:
        """Something begins that people and the watchdog may wait for."""
        self._heart.beat(phase)
        if self._starting:
            self._begun.append((phase, time.monotonic()))
        if self._main:
            self._run_dir.log(PhaseBegun(attempt=self._start.attempt, phase=phase))

    def after(self, done: StepDone) -> None:
        """End the start with the first step: one line in the journal, one in the log."""
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
    """How long each phase lasted, in order; one that came twice is counted together.

    Args:
        begun: Phases and when each began.
        now_s: When the last one ended.
    """
    seconds: dict[Phase, float] = {}
    ends = [at_s for _, at_s in begun[1:]] + [now_s]
    for (phase, at_s), end_s in zip(begun, ends, strict=True):
        seconds[phase] = round(seconds.get(phase, 0.0) + end_s - at_s, 3)
    return seconds


def process_age_s() -> float:
    """Seconds since this process was forked, as the kernel counts: exec does not set it back."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s

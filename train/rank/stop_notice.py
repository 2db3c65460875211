"""Warns if the notice before a kill is too short to save a checkpoint."""

from train.journal.events import ShortNotice
from train.rundir import RunDir


class PreemptionNotice:
    """Compares the time from a stop request to the kill with the time that a step and a save need."""

    def __init__(self, run_dir: RunDir, *, attempt: int, main: bool, notice_s: int | None) -> None:
        """Start without a measurement.

        Args:
            run_dir: Run directory with the journal for the warnings.
            attempt: The attempt that the warnings belong to.
            main: Whether this is rank 0, which writes the warnings.
            notice_s: Seconds from the stop request to the kill; None without a scheduler.
        """
        self._run_dir = run_dir
        self._attempt = attempt
        self._main = main
        self._notice_s = notice_s
        self._needed_s = 0.0

    def check(self, step_s: float, save_s: float) -> None:
        """Journal a notice that is too short; repeat only if the needed time has grown by half."""
        needed_s = step_s + save_s
        if self._notice_s is None or needed_s <= max(self._notice_s, 1.5 * self._needed_s) or not self._main:
            return
        self._needed_s = needed_s
        self._run_dir.log(
            ShortNotice(attempt=self._attempt, needed_s=round(needed_s, 1), notice_s=self._notice_s)
        )

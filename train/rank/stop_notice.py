"""The warning that a stop may come too late to save."""

from train.context import RankContext
from train.journal.events import ShortNotice


class Notice:
    """Whether the time between being asked to stop and being killed is enough, by what was measured."""

    def __init__(self, context: RankContext) -> None:
        """Nothing is measured yet."""
        self._context = context
        self._needed_s = 0.0

    def check(self, step_s: float, save_s: float) -> None:
        """Journal it once, and again when it gets worse by half."""
        notice_s = self._context.job.plan.notice_s
        needed_s = step_s + save_s
        if notice_s is None or needed_s <= max(notice_s, 1.5 * self._needed_s) or not self._context.is_main:
            return
        self._needed_s = needed_s
        self._context.job.run_dir.log(
            ShortNotice(attempt=self._context.attempt, needed_s=round(needed_s, 1), notice_s=notice_s)
        )

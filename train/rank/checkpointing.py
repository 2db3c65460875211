"""The checkpoints of a run, as the training loop uses them: scheduling, saving and restoring."""

from dataclasses import dataclass, field

from train.checkpoint.progress import Progress, Resumed
from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.checkpoint.schedule import SaveSchedule
from train.engine.engine import Engine
from train.node.heartbeat import Heartbeat
from train.rank.meter import Meter
from train.rank.stop_notice import PreemptionNotice


@dataclass(slots=True, kw_only=True)
class Checkpointing:
    """Saves and restores the states of one engine. Every method except `due` is collective."""

    engine: Engine
    saver: Saver
    restorer: Restorer
    schedule: SaveSchedule
    notice: PreemptionNotice
    meter: Meter
    heart: Heartbeat
    _saved_step: int = field(default=0, init=False)
    """The step of the newest save or restore."""

    def restart_clock(self) -> None:
        """Restart the clock that measures the time between two saves."""
        self.schedule.restart_clock()

    def due(self, progress: Progress) -> bool:
        """Return whether this step is unsaved and a save is due; only the answer of rank 0 is used."""
        return progress.step != self._saved_step and self.schedule.due(progress.step)

    def resume(self) -> Resumed:
        """Load the newest verified checkpoint, or start at step 0."""
        resumed = self.restorer.resume(self.engine)
        self._saved_step = resumed.progress.step
        return resumed

    def save(self, progress: Progress) -> None:
        """Begin a save; training is blocked only while the states are copied."""
        self.heart.beat("save")
        with self.meter.pause("save"):
            stall_s = self.saver.save(self.engine, progress)
        self.schedule.saved(stall_s)
        self._saved_step = progress.step
        self.notice.check(self.meter.last_step_s, self.saver.longest_save_s)

    def save_if_new(self, progress: Progress) -> None:
        """Save, unless the newest save or restore was of this step."""
        if progress.step != self._saved_step:
            self.save(progress)

    def join(self) -> None:
        """Wait until a save in the background is published or has failed."""
        self.saver.join()

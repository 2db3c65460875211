"""Schedule of saves: by steps, by time, by cost or on request. Torch-free; used on rank 0 only."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from train.config import CheckpointConfig

_LOOK_EVERY_S = 1.0


def best_interval_s(stall_s: float, kill_every_s: float) -> float:
    """Return the interval between saves that loses least time: sqrt(2 x stall x time between kills).

    Source: J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974).
    Daly, FGCS 22 (2006), adds terms that are negligible if a save is short relative to that time.
    """
    return math.sqrt(2 * stall_s * kill_every_s)


class SaveSchedule:
    """Decides on rank 0 when a save is due."""

    def __init__(
        self, config: CheckpointConfig, save_request: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock. The file `save_request` requests a save; it is removed once it was read."""
        self._config = config
        self._save_request = save_request
        self._clock = clock
        self._saved_at = self._looked_at = clock()
        self._interval_s: float | None = None

    def restart_clock(self) -> None:
        """Restart the clock, so that time before training is ignored."""
        self._saved_at = self._looked_at = self._clock()

    def due(self, step: int) -> bool:
        """Return whether the state after `step` should be saved."""
        waited_s = self._clock() - self._saved_at
        every = self._config.every_steps
        if isinstance(every, int) and step % every == 0:
            return True
        if self._config.every_min is not None and waited_s >= self._config.every_min * 60:
            return True
        if every == "auto" and (self._interval_s is None or waited_s >= self._interval_s):
            return True
        return self._is_asked()

    def saved(self, stall_s: float) -> None:
        """Record that a save was begun and blocked training for `stall_s` seconds."""
        self._saved_at = self._clock()
        self._interval_s = best_interval_s(max(stall_s, 1e-3), self._config.mtbf_min * 60)

    def _is_asked(self) -> bool:
        now = self._clock()
        if now - self._looked_at < _LOOK_EVERY_S:
            return False
        self._looked_at = now
        asked = self._save_request.exists()
        if asked:
            self._save_request.unlink(missing_ok=True)
        return asked

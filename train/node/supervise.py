"""Waits for the ranks of one start, and kills the rest once a rank has failed. Torch-free."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from train.node.starter import Starter

GRACE_S = 1.0
"""Seconds for ranks to end and report why after a peer failed; a rank that waits in a collective on a GPU
never ends by itself."""
_LOOK_EVERY_S = 0.2
_KILL_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the ranks of one start ended."""

    codes: Mapping[int, int]
    """Exit code, or negative signal number, by rank; only ranks that failed before any was killed here."""
    killed_here: bool
    """Whether ranks were killed because another rank, here or on another node, had failed."""

    @property
    def well(self) -> bool:
        """Whether all ranks ended by themselves without an error."""
        return not self.codes and not self.killed_here


def supervise(starter: Starter, ranks: Mapping[int, int], peers_gone: Callable[[], bool]) -> Ended:
    """Wait until all ranks have ended; kill the rest shortly after a rank, here or elsewhere, has failed.

    After a stop request, ranks that are saving are waited for.

    Args:
        starter: The starter of the ranks.
        ranks: The rank of each process id.
        peers_gone: Returns whether ranks on another node have failed, or a rank here hangs.

    Raises:
        ServerDiedError: The starter's server died, and the ranks with it.
    """
    left, codes = dict(ranks), dict[int, int]()
    kill_at: float | None = None
    killed = False
    while left:
        found = starter.next_exit(_LOOK_EVERY_S)
        now = time.monotonic()
        if found is not None:
            rank = left.pop(found.pid)
            if found.code and not killed:
                codes[rank] = found.code
        if kill_at is None and (codes or peers_gone()):
            kill_at = now + GRACE_S
        if left and kill_at is not None and now >= kill_at:
            if killed and now >= kill_at + _KILL_WITHIN_S:
                # The server does not respond, for instance because it was stopped by a signal.
                starter.kill()
                break
            if not killed:
                starter.signal_all(signal.SIGKILL)
            killed = True
    return Ended(codes, killed)

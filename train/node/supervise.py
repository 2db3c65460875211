"""Waits for the ranks of one start, and ends those whose peers are gone. Torch-free."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from train.node.starter import Starter

GRACE_S = 1.0
"""For ranks to end by themselves, and to write down why, once a peer is gone. One that waits in a
collective on a GPU never does."""
_LOOK_EVERY_S = 0.2
_KILL_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the ranks of one start ended."""

    codes: Mapping[int, int]
    """By rank that failed before any was killed here: its exit code, or minus the signal that ended it."""
    killed_here: bool
    """Whether ranks had to be killed because a peer, here or on another node, was gone."""

    @property
    def well(self) -> bool:
        """Whether all ended by themselves and without an error."""
        return not self.codes and not self.killed_here


def supervise(starter: Starter, ranks: Mapping[int, int], peers_gone: Callable[[], bool]) -> Ended:
    """Wait until all ranks have ended; kill the rest soon after one of them, or a peer elsewhere, failed.

    A stop request makes no difference: ranks that save and end well are waited for.

    Args:
        starter: What started them.
        ranks: The rank of each process id.
        peers_gone: Whether ranks of this node wait in vain, for a reason that does not show here.

    Raises:
        ServerDiedError: the starter's server died, and the ranks with it.
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
                # The server itself does not react, for instance because it was stopped.
                starter.kill()
                break
            if not killed:
                starter.signal_all(signal.SIGKILL)
            killed = True
    return Ended(codes, killed)

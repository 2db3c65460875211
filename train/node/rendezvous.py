"""The rendezvous of a job's node agents: a store on node 0, with its address in the run directory.

Node 0 chooses a free port and publishes it.
"""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from train.rundir import write_json

_POLL_S = 0.1
_FIND_WITHIN_S = 300.0
_LEAVE_WITHIN_S = 10.0


class RendezvousError(Exception):
    """Another node did not join or answer in time."""


class Rendezvous:
    """Exchanges reports and decisions: each node reports, node 0 collects and announces."""

    def __init__(self, folder: Path, node: int, nodes: int) -> None:
        """Open the store on node 0 and connect to it on other nodes.

        Raises:
            RendezvousError: Node 0 did not publish an address in time.
        """
        self.node = node
        self.nodes = nodes
        self.host = "127.0.0.1" if nodes == 1 else socket.gethostname()
        self._of_ranks: TCPStore | None = None
        self._announced: str | None = None
        published = folder / "rendezvous.json"
        if node == 0:
            self._store = self._new_store()
            write_json(published, {"endpoint": f"{self.host}:{self._store.port}"})
        else:
            _wait_for(published.exists, _FIND_WITHIN_S, "node 0 did not publish its address")
            host, _, port = json.loads(published.read_text())["endpoint"].rpartition(":")
            self._store = TCPStore(host, int(port), is_master=False, wait_for_workers=False)

    def open_store(self, topic: str) -> str:
        """Open a new store on node 0 for one start of the ranks; returns its address, on every node.

        Raises:
            RendezvousError: Node 0 did not open a store in time.
        """
        name = f"{topic}/store"
        if self.node == 0:
            self._of_ranks = self._new_store()
            self._store.set(name, json.dumps(f"{self.host}:{self._of_ranks.port}"))
        _wait_for(
            lambda: self._store.check([name]), _FIND_WITHIN_S, "node 0 did not open a store for the ranks"
        )
        return str(self._read(name))

    def report(self, topic: str, value: Any) -> None:
        """Report the result of this node."""
        self._store.set(f"{topic}/{self.node}", json.dumps(value))

    def reported_elsewhere(self, topic: str, field: str) -> bool:
        """Return whether another node has reported with `field` set."""
        others = (node for node in range(self.nodes) if node != self.node)
        return any(
            self._store.check([f"{topic}/{node}"]) and self._read(f"{topic}/{node}")[field] for node in others
        )

    def collect(self, topic: str, within_s: float) -> list[Any]:
        """Return the reports of all nodes, in order; None for each node without a report in time."""
        names = [f"{topic}/{node}" for node in range(self.nodes)]
        deadline = time.monotonic() + within_s
        while not self._store.check(names) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return [self._read(name) if self._store.check([name]) else None for name in names]

    def announce(self, topic: str, value: Any) -> None:
        """Announce the decision of node 0 to all nodes."""
        self._announced = topic
        self._store.set(f"{topic}/decision", json.dumps(value))

    def hear(self, topic: str, within_s: float) -> Any:
        """Wait for the decision of node 0.

        Raises:
            RendezvousError: Node 0 announced none in time.
        """
        name = f"{topic}/decision"
        _wait_for(
            lambda: self._store.check([name]), within_s, f"node 0 did not announce a decision on {topic}"
        )
        value = self._read(name)
        self._store.set(f"{topic}/heard/{self.node}", "")
        return value

    def leave(self) -> None:
        """Wait on node 0 until the others have read its last decision, because the store ends with node 0."""
        if self._announced is None:
            return
        names = [f"{self._announced}/heard/{node}" for node in range(1, self.nodes)]
        deadline = time.monotonic() + _LEAVE_WITHIN_S
        while names and not self._store.check(names) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _new_store(self) -> TCPStore:
        return TCPStore(self.host, 0, is_master=True, wait_for_workers=False)

    def _read(self, name: str) -> Any:
        return json.loads(self._store.get(name))


def _wait_for(condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RendezvousError(f"{otherwise} within {within_s:.0f} s")
        time.sleep(_POLL_S)

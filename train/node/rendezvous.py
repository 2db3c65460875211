"""The rendezvous of a job's node agents: a store on node 0, with its address in the run directory.

Node 0 chooses a free port and publishes it. A job of one node needs neither. Torch-free.
"""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.node.store import LocalStore, RemoteStore, Store, StoreError
from train.rundir import write_json

_POLL_S = 0.1
_FIND_WITHIN_S = 300.0
_LEAVE_WITHIN_S = 10.0


class RendezvousError(Exception):
    """Another node did not join or answer in time."""


class Rendezvous:
    """Exchanges reports and decisions: each node reports, node 0 collects and announces."""

    def __init__(self, folder: Path, node: int, nodes: int) -> None:
        """Open the store on node 0, and find it on other nodes.

        Raises:
            RendezvousError: Node 0 did not publish an address in time.
        """
        self.node = node
        self.nodes = nodes
        self.host = "127.0.0.1" if nodes == 1 else socket.gethostname()
        self._announced: str | None = None
        self._store = self._meet(folder / "rendezvous.json")

    def _meet(self, published: Path) -> Store:
        if self.node == 0:
            store = LocalStore()
            if self.nodes > 1:
                port, token = store.serve()
                write_json(published, {"host": self.host, "port": port, "token": token})
            return store
        _wait_for(published.exists, _FIND_WITHIN_S, "node 0 did not publish its address")
        return RemoteStore(**json.loads(published.read_text()))

    def open_endpoint(self, topic: str) -> tuple[str, socket.socket | None]:
        """Choose the address at which rank 0 will host the store of one start of the ranks.

        Returns:
            The address, on every node, and on node 0 the socket that already listens there, for rank 0.

        Raises:
            RendezvousError: Node 0 did not choose an address in time.
        """
        name = f"{topic}/endpoint"
        if self.node == 0:
            listener = _listen("127.0.0.1" if self.nodes == 1 else "")
            endpoint = f"{self.host}:{listener.getsockname()[1]}"
            self._put(name, endpoint)
            return endpoint, listener
        _wait_for(
            lambda: self._has(name), _FIND_WITHIN_S, "node 0 did not choose an address for the ranks' store"
        )
        return str(self._read(name)), None

    def report(self, topic: str, value: Any) -> None:
        """Report the result of this node."""
        self._put(f"{topic}/{self.node}", value)

    def reported_elsewhere(self, topic: str, field: str) -> bool:
        """Return whether another node has reported with `field` set."""
        others = (self._read(f"{topic}/{node}") for node in range(self.nodes) if node != self.node)
        return any(value is not None and value[field] for value in others)

    def collect(self, topic: str, within_s: float) -> list[Any]:
        """Return the reports of all nodes, in order; None for each node without a report in time."""
        names = [f"{topic}/{node}" for node in range(self.nodes)]
        deadline = time.monotonic() + within_s
        while not self._has(*names) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return [self._read(name) for name in names]

    def announce(self, topic: str, value: Any) -> None:
        """Announce the decision of node 0 to all nodes."""
        self._announced = topic
        self._put(f"{topic}/decision", value)

    def hear(self, topic: str, within_s: float) -> Any:
        """Wait for the decision of node 0.

        Raises:
            RendezvousError: Node 0 announced none in time.
        """
        name = f"{topic}/decision"
        _wait_for(lambda: self._has(name), within_s, f"node 0 did not announce a decision on {topic}")
        value = self._read(name)
        self._put(f"{topic}/heard/{self.node}", True)
        return value

    def leave(self) -> None:
        """Wait on node 0 until the others have read its last decision, because the store ends with node 0."""
        if self._announced is None:
            return
        names = [f"{self._announced}/heard/{node}" for node in range(1, self.nodes)]
        deadline = time.monotonic() + _LEAVE_WITHIN_S
        while not self._has(*names) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _put(self, name: str, value: Any) -> None:
        try:
            self._store.put(name, json.dumps(value))
        except StoreError as error:
            raise RendezvousError(str(error)) from error

    def _has(self, *names: str) -> bool:
        return all(self._text(name) is not None for name in names)

    def _read(self, name: str) -> Any:
        text = self._text(name)
        return None if text is None else json.loads(text)

    def _text(self, name: str) -> str | None:
        try:
            return self._store.get(name)
        except StoreError as error:
            raise RendezvousError(str(error)) from error


def _listen(host: str) -> socket.socket:
    """Listen at a free port; on all addresses of this machine if no host is given."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, 0))


def _wait_for(condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RendezvousError(f"{otherwise} within {within_s:.0f} s")
        time.sleep(_POLL_S)

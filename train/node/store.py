"""The key-value store of a job's node agents, which node 0 serves over XML-RPC. Torch-free."""

import secrets
import socket
import threading
from http.client import HTTPConnection, HTTPException
from socketserver import ThreadingMixIn
from typing import Protocol
from xmlrpc.client import Error, ServerProxy, Transport
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

_ANSWER_WITHIN_S = 60.0


class StoreError(Exception):
    """Node 0 does not answer."""


class Store(Protocol):
    """Texts by name."""

    def put(self, name: str, text: str) -> None:
        """Store a text."""

    def get(self, name: str) -> str | None:
        """Return a text, or None if there is none under this name."""


class LocalStore:
    """The store in the memory of node 0."""

    def __init__(self) -> None:
        """Create an empty store."""
        self._texts: dict[str, str] = {}

    def put(self, name: str, text: str) -> None:
        """Store a text."""
        self._texts[name] = text

    def get(self, name: str) -> str | None:
        """Return a text, or None if there is none under this name."""
        return self._texts.get(name)

    def serve(self) -> tuple[int, str]:
        """Serve this store to the other nodes until the process ends; returns the port and the token.

        The token is the path of the address, without which requests are refused.
        """
        token = secrets.token_urlsafe(16)
        handler = type("Handler", (_Handler,), {"rpc_paths": (f"/{token}",)})
        server = _Server(("", 0), handler, logRequests=False, allow_none=True)
        for method in (self.put, self.get):
            server.register_function(method)  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, name="store", daemon=True).start()
        return int(server.server_address[1]), token


class RemoteStore:
    """The store of node 0, on another node."""

    def __init__(self, host: str, port: int, token: str) -> None:
        """Store the address; a connection is made by the first request."""
        self._address = f"{host}:{port}"
        self._server = ServerProxy(f"http://{self._address}/{token}", transport=_Transport(), allow_none=True)

    def put(self, name: str, text: str) -> None:
        """Store a text.

        Raises:
            StoreError: Node 0 does not answer.
        """
        self._call("put", name, text)

    def get(self, name: str) -> str | None:
        """Return a text, or None if there is none under this name.

        Raises:
            StoreError: Node 0 does not answer.
        """
        text = self._call("get", name)
        return None if text is None else str(text)

    def _call(self, method: str, *arguments: str) -> object:
        try:
            answer: object = getattr(self._server, method)(*arguments)
        except (OSError, HTTPException, Error) as error:
            raise StoreError(f"node 0 ({self._address}) does not answer: {error}") from error
        return answer


class _Handler(SimpleXMLRPCRequestHandler):
    """A handler that does not log: the client of a refused request reports it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


class _Server(ThreadingMixIn, SimpleXMLRPCServer):
    """A thread for each node, on IPv6 and IPv4 where the system has both."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Transport(Transport):
    """A transport whose requests end after a time."""

    def make_connection(self, host: object) -> HTTPConnection:
        connection: HTTPConnection = super().make_connection(host)  # type: ignore[arg-type]
        connection.timeout = _ANSWER_WITHIN_S
        return connection

"""An HTTP server in threads of its own, of which nothing is left when it is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Endpoint:
    """Serves ``application`` at ``address`` and ``port``, 0 for any that is free, until `close`.

    Raises OSError where that can't be had.
    """

    def __init__(self, address: str, port: int, application: Application) -> None:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        kind = type("_Server", (_Server,), {"address_family": family})
        self._server: _Server = kind((address, port), _Handler)
        self._server.set_app(application)
        host = f"[{address}]" if family == socket.AF_INET6 else address
        self.url = f"http://{host}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=self.url, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends also requests that are under way."""
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()  # waits for the threads of requests


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self, *arguments: Any) -> None:
        self._clients: set[socket.socket] = set()
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without the look-up of the host's name, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was sent away."""


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *arguments: Any) -> None:
        """No line for each scrape."""

"""Hosts in this process: directories, and a thread with a file server for each connection to them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from asparkle.core.contracts import AppSpec
from asparkle.core.fileserver import Copies, serve_files
from asparkle.core.hostfiles import HostFiles
from asparkle.testing import sample_app

PARTS = ("blocks", "data", "results", "spill", "shuffle-0")


class Hosts:
    """Their directories are ``root / name``, that of the driver ``root / "driver"``.

    ``wrap``: by host, what makes another connection of one, which its server then has.
    """

    def __init__(self, root: Path, *names: str, timeout: float = 30.0) -> None:
        self.root = root
        self.timeout = timeout
        self.dials: list[str] = []
        self.down: set[str] = set()
        self.copies = Copies()
        self.wrap: dict[str, Callable[[socket.socket], object]] = {}
        for name in ("", *names):
            for part in PARTS:
                os.makedirs(self.directory(name) / part)

    def directory(self, name: str) -> Path:
        return self.root / (name or "driver")

    def app(self, host: str, **settings: object) -> AppSpec:
        app = sample_app([str(self.directory(host))])
        return app._replace(host=host, dialer="nobody:asks", network_timeout=self.timeout, **settings)

    def files(self, host: str) -> HostFiles:
        """As a process of ``host`` sees them."""
        return HostFiles(self.app(host), self.dial)

    def dial(self, host: str) -> socket.socket:
        self.dials.append(host)
        if host in self.down:
            raise ConnectionRefusedError(111, "nobody listens")
        ours, theirs = socket.socketpair()
        served = self.wrap.get(host, lambda connection: connection)(theirs)
        copies = None if host else self.copies
        arguments = (served, [str(self.directory(host))], copies)
        threading.Thread(target=serve_files, args=arguments, daemon=True).start()
        return ours

    def write(self, host: str, name: str, data: bytes) -> str:
        path = self.directory(host) / name
        path.write_bytes(data)
        return str(path)

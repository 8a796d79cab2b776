"""The driver's installed packages, brought to nodes: the driver's side of the conversation that
`asparkle.backends.ssh.environment` has."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from asparkle.backends.ssh.link import LinkChannel
from asparkle.backends.ssh.nodes import Node
from asparkle.backends.ssh.wheels import Lock, Package, bundled_installer, installer, lock, wheel_name, write_wheel
from asparkle.errors import NodeError
from asparkle.plugins import Unpacker, in_thread, log, pack

_CHUNK: Final = 1 << 18
_NEWS: Final = 5.0  # seconds between two lines in the log


class Sync:
    """One application's lock, and the wheels that nodes have asked for: made once, kept in a file in the first of
    ``directories`` while a node may want them."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._directory = Path(*directories[:1], "wheels")
        self._lock: Lock | None = None
        self._turn = anyio.Lock()  # who makes the lock, or a wheel
        self._wheels: dict[str, Path] = {}
        self._nodes = 0  # that are being served

    async def bring(self, node: Node, channel: LinkChannel, directory: str) -> dict[str, Any]:
        """Have a node's environment built, unless it is there; see ``described`` in `asparkle.backends.ssh.environment`
        for what that gives.  ``channel`` leads to the builder, ``directory`` is where the node's files go.

        Raises NodeError.
        """
        self._nodes += 1
        try:
            return await _Visit(self, node, channel).pay(await self._locked(node), directory)
        finally:
            self._nodes -= 1
            channel.close()
            if not self._nodes:
                self._wheels.clear()
                shutil.rmtree(self._directory, ignore_errors=True)

    async def _locked(self, node: Node) -> Lock:
        async with self._turn:
            if self._lock is None:
                try:
                    self._lock = await in_thread(lock)
                except Exception as error:  # of what is installed, something is not as it should be
                    raise NodeError(node.name, _cannot_pack(error)) from error
                if self._lock.left_out:
                    log().warning(
                        "packages that the system's package manager has installed are not brought to nodes",
                        packages=", ".join(self._lock.left_out),
                    )
            return self._lock

    async def wheel(self, name: str) -> Path | None:
        """A package's wheel, by name; None if it can't be made any more.  Raises OSError."""
        async with self._turn:
            if name not in self._wheels:
                package = self._package(name)
                if package is None:
                    return bundled_installer() if name == "pip" else None
                self._directory.mkdir(0o700, exist_ok=True)
                path = self._directory / wheel_name(package)
                steps = write_wheel(package, path)
                while not await in_thread(_step, steps):  # each is short: who waits for this can be cancelled
                    pass
                self._wheels[name] = path
            return self._wheels[name]

    def _package(self, name: str) -> Package | None:
        assert self._lock is not None
        return installer() if name == "pip" else next((p for p in self._lock.packages if p.name == name), None)


def _cannot_pack(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"the driver can't pack its installed packages: {what}"


def _step(steps: Iterator[None]) -> bool:
    """Whether that was the last."""
    try:
        next(steps)
    except StopIteration:
        return True
    return False


class _Visit:
    """What is said to one node's builder."""

    def __init__(self, sync: Sync, node: Node, channel: LinkChannel) -> None:
        self._sync = sync
        self._node = node
        self._channel = channel
        self._sent = [0, 0]  # packages, bytes
        self._problem = ""  # why it can't be built

    async def pay(self, lock: Lock, directory: str) -> dict[str, Any]:
        plain = [[p.name, p.version, p.id, p.size, p.platform, p.portable] for p in lock.packages]
        self._channel.send(pack(["build", {"lock": lock.id, "packages": plain, "directory": directory}]))
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            built = await self._listen(tasks)
            tasks.cancel_scope.cancel()
        if built is None:
            raise NodeError(self._node.name, self._problem or "the process that builds its environment was ended")
        self._log("the environment is there", seconds=round(time.monotonic() - began, 1))
        return built

    async def _listen(self, tasks: TaskGroup) -> dict[str, Any] | None:
        messages = Unpacker()
        sending = anyio.CancelScope()
        while data := await self._channel.receive():
            for kind, *fields in messages.feed(data):
                if kind == "send":
                    sending.cancel()
                    sending = anyio.CancelScope()
                    tasks.start_soon(self._send_all, sending, *fields)
                elif kind == "built":
                    return dict(fields[0])
                elif kind == "refused":
                    self._problem = fields[0]
                    return None
                elif kind == "wait":
                    self._log("another application has the same environment built there: this one waits for it")
                elif kind == "install":
                    self._log("packages are installed from the node's index", packages=", ".join(fields[0]))
        return None

    async def _send_all(self, scope: anyio.CancelScope, number: int, names: list[str]) -> None:
        made, wanted = anyio.create_memory_object_stream[tuple[str, Path | None]](1)
        told = time.monotonic()
        try:
            with scope:
                async with wanted, anyio.create_task_group() as tasks:
                    tasks.start_soon(self._make_all, names, made)  # the next one, while this one is on its way
                    async for name, wheel in wanted:
                        await self._send(number, name, wheel)
                        if time.monotonic() - told > _NEWS:
                            told = time.monotonic()
                            packages, size = self._sent
                            self._log("packages are sent", packages=f"{packages} of {len(names)}", megabytes=size >> 20)
        except* Exception as errors:  # as above
            self._problem = _cannot_pack(errors)
            self._channel.close()

    async def _make_all(self, names: list[str], made: Any) -> None:
        async with made:
            for name in names:
                await made.send((name, await self._sync.wheel(name)))

    async def _send(self, number: int, name: str, wheel: Path | None) -> None:
        if wheel is None:
            self._channel.send(pack(["lacks", number, name]))
            return
        self._channel.send(pack(["wheel", number, name, wheel.name]))
        with await in_thread(open, wheel, "rb") as file:
            while data := await in_thread(file.read, _CHUNK):
                self._channel.send(pack(["data", number, data]))
                await self._channel.drained()
        self._channel.send(pack(["end", number]))
        self._sent[0] += 1
        self._sent[1] += os.path.getsize(wheel)

    def _log(self, what: str, **fields: object) -> None:
        log().info(what, node=self._node.name, **fields)

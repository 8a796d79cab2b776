"""Broadcast variables: a value that is pickled once, and brought to each worker once, on first use."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asparkle.core.errors import BroadcastDestroyed, UserFunctionError
from asparkle.core.payloads import load, map_ref
from asparkle.core.protocol import FileRef

if TYPE_CHECKING:
    from asparkle.core.cleaner import Cleaner
    from asparkle.core.hostfiles import HostFiles

T = TypeVar("T")
_loading = threading.Lock()
_loaded: dict[tuple[str, int], Any] = {}  # (application, broadcast): the value, in this worker
_files: dict[str, HostFiles] = {}  # by application: in a worker that does not share the driver's files
_MISSING = object()
_pickling = threading.local()


@contextmanager
def pickled_broadcasts() -> Iterator[list[Broadcast[Any]]]:
    """The broadcast variables that this thread pickles inside."""
    found: list[Broadcast[Any]] = []
    _pickling.found = found
    try:
        yield found
    finally:
        _pickling.found = None


class Broadcast(Generic[T]):
    """A read-only value that is the same in all tasks; made by ``SparkContext.broadcast``."""

    def __init__(self, value: T, identity: int, app: str, ref: FileRef, cleaner: Cleaner) -> None:
        self._value = value
        self._id = identity
        self._app = app
        self._ref: FileRef | None = ref
        self._cleaner = weakref.ref(cleaner)
        self._finalizer = cleaner.when_gone(self, type(cleaner).drop_broadcast, identity, ref.path)

    @property
    def value(self) -> T:
        """The value; in a task, a copy that all tasks of the worker share and none should change."""
        if self._ref is None:
            raise BroadcastDestroyed(self._id)
        return self._value

    def unpersist(self, blocking: bool = False) -> None:
        """Drop the workers' copies; a task that reads the value again fetches it again."""
        cleaner = self._cleaner()
        if cleaner is not None:
            cleaner.post(type(cleaner).drop_broadcast, self._id)

    def destroy(self, blocking: bool = False) -> None:
        """Drop the value everywhere; using it afterwards is an error."""
        self._ref = None
        self._finalizer()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._ref is None:
            raise BroadcastDestroyed(self._id)
        found = getattr(_pickling, "found", None)
        if found is not None:
            found.append(self)
        return (_in_worker, (self._id, self._app, self._ref))

    def __repr__(self) -> str:
        return f"<Broadcast {self._id}>"


class _WorkerBroadcast(Broadcast[Any]):
    """A broadcast as tasks see it: the value is read when it is first asked for."""

    def __init__(self, identity: int, app: str, ref: FileRef) -> None:
        self._id = identity
        self._app = app
        self._ref = ref

    @property
    def value(self) -> Any:
        key = (self._app, self._id)
        found = _loaded.get(key, _MISSING)
        if found is _MISSING:
            with _loading:
                found = _loaded.get(key, _MISSING)
                if found is _MISSING:
                    assert self._ref is not None
                    files = _files.get(self._app)
                    found = _loaded[key] = load(self._ref, map=map_ref if files is None else files.keep)
        return found  # not from the table again: `forget` may run in between

    def unpersist(self, blocking: bool = False) -> None:
        raise UserFunctionError("a broadcast is unpersisted and destroyed in the driver, not in a task")

    destroy = unpersist


def _in_worker(identity: int, app: str, ref: Any) -> _WorkerBroadcast:
    return _WorkerBroadcast(identity, app, FileRef(*ref))


def fetch_with(app: str, files: HostFiles) -> None:
    """From now on this process, a worker of the application that does not share the driver's files, fetches what is
    broadcast, once for its host."""
    _files[app] = files


def file_name(identity: int) -> str:
    """What the file of a broadcast is called, in the driver's directory ``data``."""
    return f"broadcast-{identity}"


def forget(app: str, identity: int | None = None) -> None:
    """Drop this process's copy of one broadcast, or of all of an application."""
    if identity is None:
        _files.pop(app, None)
    for key in list(_loaded):
        if key[0] == app and identity in (None, key[1]):
            _loaded.pop(key, None)

"""What a worker of another host than the driver's has from there: added files, and modules that its host lacks.

Added files are brought before the next attempt.  A module is brought when an import finds it nowhere else, or among
what is installed on the host: the driver's own modules go before what is installed, on a host as for the driver.  Both
are fetched once for all workers of the host, appear in one step, and go with the application's directories.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Final

from asparkle.core import protocol
from asparkle.core.directories import added_files, files_below, remove_tree
from asparkle.core.errors import AsparkleError, StorageError
from asparkle.core.localmodules import is_installed
from asparkle.core.logs import log
from asparkle.core.protocol import FileRef, TakeModule

if TYPE_CHECKING:
    from asparkle.core.worker.runtime import Worker

_CAUSES: Final = 20  # of an error that are looked at: they may go in circles
_NO_FILE: Final = (
    "host {host!r} does not see the driver's files: what jobs read and write has to be where all hosts and the driver "
    "find it under the same path, on an NFS share, say, or in an object store; what is small can be brought by "
    "SparkContext.addFile, or read in the driver and given to parallelize"
)


class Provisions:
    """One per worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._files = worker.files
        self._root = files_below(worker.app.directories)
        self._wanted: protocol.Surroundings | None = None
        self._brought: protocol.Surroundings | None = None
        self._modules = DriverModules(worker)

    def install(self) -> None:
        """Have imports of this process look for modules at the driver's.  Raises StorageError."""
        self._modules.install()
        added_files[self._worker.app.app_id] = self._root

    def take(self, message: protocol.Surroundings) -> None:
        """There may be more to bring, before the next attempt.  Called by who hears the driver; never blocks."""
        self._wanted = message
        self._modules.forget()

    def bring(self) -> None:
        """See that all is there that was added.  Called before each attempt.

        Raises OSError, CorruptBlock or StorageError, with a note that says what could not be brought.
        """
        wanted = self._wanted
        if wanted is self._brought or wanted is None:
            return
        for name, ref, mode in wanted.added:
            try:
                self._files.place(FileRef(*ref), os.path.join(self._root, name), partial(self._finish, name, mode))
            except (AsparkleError, OSError) as error:
                error.add_note(f"{name!r}, which was added, could not be brought to host {self._files.host!r}")
                raise
        for name in reversed(wanted.imports):
            directory = os.path.join(self._root, name) if name else self._root
            if directory not in sys.path:
                sys.path.insert(1, directory)
        importlib.invalidate_caches()
        self._brought = wanted

    def _finish(self, name: str, mode: int | None, fetched: str) -> None:
        target = os.path.join(self._root, name)
        if mode is None:
            unpack(fetched, name, target)
        else:
            os.chmod(fetched, mode)
            os.rename(fetched, target)

    def answer(self, message: TakeModule) -> None:
        """What the driver says of a module."""
        self._modules.answer(message)

    def stop(self) -> None:
        """Nobody answers any more."""
        self._modules.stop()

    def explain(self, error: BaseException) -> None:
        """Have an attempt's error say of what was not found why that is so."""
        cause: BaseException | None = error
        for _ in range(_CAUSES):
            if isinstance(cause, ModuleNotFoundError):
                self._modules.explain(cause)
            elif isinstance(cause, FileNotFoundError):
                error.add_note(_NO_FILE.format(host=self._files.host))
                return
            if cause is None:
                return
            cause = cause.__cause__ or cause.__context__


def unpack(fetched: str, place: str, target: str) -> None:
    """Make ``target`` of what has this ``place`` in the bundle ``fetched``, in one step.  Raises StorageError."""
    from asparkle.core.bundles import unbundle

    fresh = f"{fetched}.unpacked"
    remove_tree(fresh)  # of a process that was killed
    try:
        unbundle(fetched, fresh)
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        os.rename(os.path.join(fresh, place), target)
    except OSError as error:
        raise StorageError(os.path.dirname(target), error) from error
    finally:
        remove_tree(fresh)


class DriverModules:
    """Finds the driver's own modules, by bringing them here.

    An import asks in whatever thread it happens, and waits: no attempt is interrupted inside of it, so it takes no
    longer than ``AppSpec.network_timeout`` until it has an answer.  The thread that hears the driver asks nothing, nor
    does a process that was forked here.
    """

    def __init__(self, worker: Worker) -> None:
        app = worker.app
        self._worker = worker
        self._host = app.host
        self._timeout = app.network_timeout
        self._directory = os.path.join(app.directories[0], "modules")
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._requests = 0
        self._waiting: dict[int, SimpleQueue[TakeModule | None]] = {}
        self._absent: dict[str, str] = {}  # what the driver does not have as its own, or does not send, and why
        self._stopped = False

    def install(self) -> None:
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(os.path.dirname(self._directory), error) from error
        sys.path.append(self._directory)
        sys.meta_path.insert(sys.meta_path.index(PathFinder), self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raises ImportError for a module that the driver has, and that can't be brought."""
        parent, _, _ = fullname.rpartition(".")
        if (parent and not _is_namespace(parent)) or fullname.partition(".")[0] in sys.stdlib_module_names:
            return None
        if fullname in self._absent or not self._may_ask():
            return None
        here = PathFinder.find_spec(fullname, path)
        if here is not None and not is_installed(here):  # added, or where a task wants it to be found
            return None
        answer = self._ask(fullname, missing=here is None)
        if answer.ref is None and not answer.refused:
            self._absent[fullname] = f"no module named {fullname!r} on host {self._host!r}: {answer.reason}"
            return None
        try:
            self._bring(fullname, answer)
        except ImportError as error:
            if here is None:
                raise
            log().warning("a task imports what is installed on its host", module=fullname, reason=str(error))
            self._absent[fullname] = str(error)
            return None
        importlib.invalidate_caches()
        found = PathFinder.find_spec(fullname, [os.path.join(self._directory, *filter(None, parent.split(".")))])
        return None if found is None or found.loader is None else found  # a namespace's other parts are on the path

    def _may_ask(self) -> bool:
        listener = self._worker.listener
        forked = os.getpid() != self._pid
        return listener is not None and listener != threading.get_ident() and not forked and not self._stopped

    def _ask(self, name: str, missing: bool) -> TakeModule:
        answers: SimpleQueue[TakeModule | None] = SimpleQueue()
        with self._lock:
            self._requests += 1
            request = self._requests
        self._waiting[request] = answers
        try:
            self._worker.report_later(protocol.WantModule(name, request, missing))
            self._worker.flush()
            answer = answers.get(timeout=self._timeout)
        except Empty:
            raise self._error(name, f"the driver did not say in {self._timeout:g} s whether it has it") from None
        finally:
            del self._waiting[request]
        if answer is None:
            raise self._error(name, "the context was stopped")
        return answer

    def _bring(self, name: str, answer: TakeModule) -> None:
        if answer.ref is None:
            raise self._error(name, answer.reason)
        if answer.platform:
            from asparkle.core.platforms import Platform

            here, needed = Platform.here(), Platform.of(answer.platform)
            if not here.loads(needed):
                raise self._error(name, f"{answer.compiled} is compiled for {needed}, and the host is {here}")
        target = os.path.join(self._directory, answer.place)
        try:
            self._worker.files.place(
                FileRef(*answer.ref), target, lambda fetched: unpack(fetched, answer.place, target)
            )
        except (AsparkleError, OSError) as error:
            raise self._error(name, str(error)) from error

    def _error(self, name: str, reason: str) -> ImportError:
        return ImportError(f"the driver's module {name!r} can't be brought to host {self._host!r}: {reason}", name=name)

    # ------------------------------------------------------------------------- called in other threads

    def answer(self, message: TakeModule) -> None:
        waiting = self._waiting.get(message.request)
        if waiting is not None:
            waiting.put(message)

    def forget(self) -> None:
        """Modules were added: what the driver did not have, it may have now."""
        self._absent = {}

    def stop(self) -> None:
        self._stopped = True
        for waiting in list(self._waiting.values()):
            waiting.put(None)

    def explain(self, error: ModuleNotFoundError) -> None:
        if error.name in self._absent:
            error.msg = self._absent[error.name]
            error.args = (error.msg,)


def _is_namespace(name: str) -> bool:
    """Whether an imported package may have parts in several directories."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and spec.origin is None and spec.submodule_search_locations is not None

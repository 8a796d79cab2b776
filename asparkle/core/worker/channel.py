"""A worker at the end of a channel: the main thread runs tasks, a second thread listens.

The listener is what lets an attempt be killed, and queued ones be given back, while the main thread is
deep in a user's code.  It sleeps in the kernel while nothing is queued: an idle worker costs no CPU.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

from asparkle.core.contracts import AppSpec
from asparkle.core.errors import ConfigurationError, StorageError, TaskKilled
from asparkle.core.protocol import MessageReader, Ready, Refused, Started, encode
from asparkle.core.worker.mark import make_mark
from asparkle.core.worker.runtime import Worker

_GARBAGE: Final = (50_000, 20, 10)
_TICK: Final = 0.005  # seconds between looks at held-back reports, while there are any


def serve(incoming: int, outgoing: int, app: AppSpec, executor: str) -> None:
    """Be a worker for the driver at the other end of two file descriptors, which may be one and the same.

    Returns when the driver says so, or when it can't be a worker, having said why; ends the process when the driver is
    gone.
    """
    # Tasks make lists of millions of tuples, and the collector's usual thresholds have it look through them again and
    # again: that took a third of the time of a join.
    gc.set_threshold(*_GARBAGE)
    sending = threading.Lock()

    def send(batch: Sequence[Any]) -> None:
        try:
            with sending:
                _write(outgoing, encode(batch))
        except (BrokenPipeError, ConnectionResetError):
            _leave()  # the driver is gone, and with it whoever wanted this

    main = threading.get_ident()

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGUSR1)

    try:
        _check_packages(app)
        worker = Worker(app, executor, send, in_process=False, interrupt=interrupt)
        worker.mark = make_mark(app, executor)
        if worker.provisions is not None:
            worker.provisions.install()
    except (Exception, SystemExit) as error:  # a plugin's class is not here, or the application's directories are not
        known = isinstance(error, (ConfigurationError, StorageError, OSError))
        send([Refused(str(error) if known else f"{type(error).__name__}: {error}")])
        return

    def on_signal(number: int, frame: Any) -> None:
        tid = worker.interruptible
        if tid is not None and tid in worker.killing and not _importing(frame):
            raise TaskKilled(worker.killing[tid])

    signal.signal(signal.SIGUSR1, on_signal)
    threading.Thread(target=_listen_or_die, args=(incoming, worker), name="asparkle-listener", daemon=True).start()
    worker.report(Ready(os.getpid()))
    worker.run_slot()
    worker.join_event_loop()


def _check_packages(app: AppSpec) -> None:
    """Raises ConfigurationError where a plugin is not here as the driver has it."""
    for name, version in app.packages:
        if (here := _version(name)) != version:
            problem = f"its {name} is {here or 'not installed'}, the driver's {version}: install the same version"
            raise ConfigurationError(problem)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _importing(frame: Any) -> bool:
    """Whether an import is under way: cut short, it would leave half a module behind for every later task."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _listen_or_die(incoming: int, worker: Worker) -> None:
    """A worker that does not hear is of no use: its driver takes it for lost, and starts another."""
    try:
        _listen(incoming, worker)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def _listen(incoming: int, worker: Worker) -> None:
    worker.listener = threading.get_ident()
    reader = MessageReader()
    poll = select.poll()
    poll.register(incoming, select.POLLIN)
    told: set[int] = set()
    while True:
        busy = bool(worker.waiting or worker.has_reports or any(tid not in told for tid in list(worker.running)))
        if not poll.poll(_TICK * 1000 if busy else None):
            worker.flush()
            told = _tell_started(worker, told)
            continue
        try:
            data = os.read(incoming, 1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            _leave()
        worker.receive(reader.feed(data))


def _tell_started(worker: Worker, told: set[int]) -> set[int]:
    """Report attempts that have run for more than a tick: only long ones are worth a message."""
    now = time.monotonic()
    running = dict(worker.running)
    for tid, since in running.items():
        if tid not in told and now - since >= _TICK:
            worker.report(Started(tid))
            told.add(tid)
    return told & running.keys()


def _leave() -> None:
    """End this process at once, whatever its main thread is doing."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the terminal is gone too
    os._exit(0)

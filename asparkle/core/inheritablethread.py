"""Threads that take a context's local properties along."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class InheritableThread(threading.Thread):
    """A thread that begins with the job group, tags, description and local properties of where it is started.

    They are context variables, which a plain thread does not inherit before Python 3.14.  What the thread sets is its
    own.  ``session`` is PySpark's, for Spark Connect, and is ignored.

    >>> from asparkle import InheritableThread
    >>> sc.setLocalProperty("color", "blue")
    >>> seen = []
    >>> thread = InheritableThread(target=lambda: seen.append(sc.getLocalProperty("color")))
    >>> thread.start()
    >>> thread.join()
    >>> seen
    ['blue']
    """

    def __init__(self, target: Callable[..., Any], *args: Any, session: object = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"target": self._run_inherited})
        self._function = target
        self._variables: contextvars.Context | None = None

    def start(self) -> None:
        """Begin, with what is set here now."""
        self._variables = contextvars.copy_context()
        super().start()

    def _run_inherited(self, *args: Any, **kwargs: Any) -> None:
        variables, function = self._variables, self._function
        del self._variables, self._function
        assert variables is not None
        variables.run(function, *args, **kwargs)


def inheritable_thread_target(f: Callable[..., T]) -> Callable[..., T]:
    """``f``, with what is set here now wherever it is called, in a thread of a pool, say.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from asparkle import inheritable_thread_target
    >>> sc.setLocalProperty("color", "red")
    >>> with ThreadPoolExecutor() as pool:
    ...     pool.submit(inheritable_thread_target(sc.getLocalProperty), "color").result()
    'red'
    """
    variables = contextvars.copy_context()

    @functools.wraps(f)
    def inherited(*args: Any, **kwargs: Any) -> T:
        return variables.copy().run(f, *args, **kwargs)  # a copy: two threads may call it at once

    return inherited

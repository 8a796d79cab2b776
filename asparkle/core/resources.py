"""What a worker opens once and keeps from task to task: a pool of connections, a client, a model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from asparkle.core.errors import ArgumentTypeError, ContextError
from asparkle.core.shown import shown
from asparkle.core.taskcontext import TaskContext

T = TypeVar("T")
_numbers = itertools.count()


class WorkerResource(Generic[T]):
    """Something that each worker opens when one of its tasks first awaits it, and closes when the worker ends.

    ``factory``: a function without arguments that returns an asynchronous context manager.  ``await resource``, in
    a coroutine function that was given to `map` or another operation, is what entering that gave; all tasks of a
    worker share it, at the same time, on the worker's event loop.  Where opening fails, whoever awaited it gets the
    error, and the next one tries again; where it ends by itself, it is opened anew when it is next awaited.  It is
    closed, in the task that opened it, when the context stops, at the same time as the worker's others and in less
    than ``spark.task.reaper.killTimeout``; a worker that is killed closes nothing.

    Raises ArgumentTypeError for what is no function, and, where it is awaited outside of such a coroutine,
    ContextError.

    >>> from contextlib import asynccontextmanager
    >>> @asynccontextmanager
    ... async def connect():
    ...     yield "a connection"
    >>> connection = WorkerResource(connect)
    >>> async def length(x):
    ...     return len(await connection) + x
    >>> sc.parallelize([1, 2]).map(length).collect()
    [13, 14]
    """

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        if not callable(factory):
            raise ArgumentTypeError(
                f"WorkerResource: factory = {shown(factory)} of type {type(factory).__name__}: expected a function "
                "that returns an asynchronous context manager"
            )
        self._factory = factory
        self._id = f"{os.getpid()}-{next(_numbers)}"  # the same in all copies that tasks unpickle

    def __await__(self) -> Generator[Any, None, T]:
        context = TaskContext.get()
        if context is None:
            raise ContextError(
                "a WorkerResource is opened by workers: await it in a coroutine function that is given to map, "
                "mapPartitions or another operation"
            )
        resources = context._environment.worker.event_loop().resources
        opened: T = yield from resources.opened(self._id, self._factory).__await__()
        return opened

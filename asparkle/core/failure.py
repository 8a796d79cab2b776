"""Users' errors: on their way from tasks to the driver, and as the job's caller gets them.

The exception itself travels where it can, and its story in any case.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import cloudpickle

import asparkle
from asparkle.core.errors import AsparkleError, JobFailed, UserFunctionError, rebuild
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.payloads import load

_OURS = os.path.join(asparkle.__path__[0], "")
_LOOP = f"{os.sep}anyio{os.sep}"


class TaskError(NamedTuple):
    """``frames``: the user's part of the traceback, innermost last, as text."""

    exception: BaseException | None
    kind: str
    message: str
    frames: str


def in_driver(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``: the driver's part of an action, which runs users' functions or meets their data.

    What these raise is a JobFailed, as it is if it happens in a task; other errors of asparkle's own pass.
    """
    try:
        return function(*arguments)
    except Exception as error:
        if isinstance(error, AsparkleError) and not isinstance(error, UserFunctionError):
            raise
        cause = error
        if isinstance(error, StopIteration):  # no future can hold it
            cause = UserFunctionError("a function raised StopIteration; catch it there")
            cause.__cause__ = error
        raise job_failed(told(cause)) from cause


def job_failed(cause: TaskError, **place: Any) -> JobFailed:
    """What the caller of the job gets: the user's exception is its cause.  ``place``: as `JobFailed` takes it."""
    reason = f"{cause.kind}: {cause.message}" if cause.message else cause.kind
    error = JobFailed(reason, frames=cause.frames, **place)
    error.__cause__ = cause.exception
    return error


def told(error: BaseException) -> TaskError:
    """``error`` and its story."""
    kind = type(error).__qualname__
    try:
        message = str(error)
    except Exception as unprintable:  # a user's __str__ may do anything
        message = f"<its __str__ raised {unprintable!r}>"
    message = "\n".join([message, *map(str, getattr(error, "__notes__", ()))])
    frames = "".join(user_frames(error.__traceback__)) + _chain(error)
    if not frames and not isinstance(error, AsparkleError):
        frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)[-1:]))
    return TaskError(error, kind, message, frames)


def describe_failure(error: BaseException, *, live: bool = False) -> Any:
    """``error`` as a payload: pickled, or, between threads of one process, as it is."""
    story = told(error)
    if live:
        from asparkle.core.protocol import Live

        return Live(story)
    forms = (error, _Parts(error, error.__dict__), _Parts(error, {}))
    pickled = next(filter(None, map(_pickled, forms)), b"")
    return pickle.dumps((pickled, *story[1:]), protocol=5)


class _Parts:
    """Unpickles as an exception whose ``__init__`` is not called: many can't be called with their ``args``."""

    def __init__(self, error: BaseException, state: dict[str, Any]) -> None:
        self.error = error
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self.error), self.error.args, self.state)


def _pickled(value: Any) -> bytes:
    """The pickle, if it can be read again.  What users' classes do when they are pickled may fail in any way; the
    error's story travels without it."""
    try:
        pickled: bytes = cloudpickle.dumps(value, protocol=5)
        pickle.loads(pickled)
    except Exception:
        return b""
    return pickled


def _chain(error: BaseException) -> str:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        return ""
    lines = traceback.format_exception_only(type(cause), cause)
    return "caused by:\n" + "".join((*user_frames(cause.__traceback__), *lines))


def user_frames(tb: TracebackType | None) -> list[str]:
    """The frames that are neither asparkle's nor of the event loop beneath it."""
    frames = traceback.extract_tb(tb)
    return traceback.format_list(f for f in frames if not f.filename.startswith(_OURS) and _LOOP not in f.filename)


def story_of(payload: Any) -> Sequence[str]:
    """Kind, message and frames of what `describe_failure` made; the exception itself stays pickled."""
    story: Sequence[str] = load(payload)[1:]
    return story


def load_failure(payload: Any) -> TaskError:
    """What `describe_failure` made."""
    value = load(payload)
    if isinstance(value, TaskError):
        return value
    pickled, kind, message, frames = value
    exception = None
    if pickled:
        try:
            exception = pickle.loads(pickled)
        except Exception:  # it needs a module that only workers have, say
            exception = None
    return TaskError(exception, kind, message, frames)

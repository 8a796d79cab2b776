"""A task's error on its way to the driver: the exception itself where it can travel, and its story in any case."""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType
from typing import Any, NamedTuple

import cloudpickle

from asparkle.core.payloads import load

__all__ = ["TaskError", "describe_failure", "load_failure"]

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class TaskError(NamedTuple):
    """``frames``: the user's part of the traceback, innermost last, as text."""

    exception: BaseException | None
    kind: str
    message: str
    frames: str


def describe_failure(error: BaseException, *, live: bool = False) -> Any:
    """``error`` as a payload: pickled, or, between threads of one process, as it is."""
    kind = type(error).__qualname__
    try:
        message = str(error)
    except Exception as unprintable:  # a user's __str__ may do anything
        message = f"<its __str__ raised {unprintable!r}>"
    frames = "".join(user_frames(error.__traceback__)) + _chain(error)
    if live:
        from asparkle.core.protocol import Live

        return Live(TaskError(error, kind, message, frames))
    try:
        pickled = cloudpickle.dumps(error, protocol=5)
        pickle.loads(pickled)  # some exceptions pickle, and do not unpickle
    except Exception:  # a user's exception may fail to pickle in any way: its story still travels
        pickled = b""
    return pickle.dumps((pickled, kind, message, frames), protocol=5)


def _chain(error: BaseException) -> str:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        return ""
    lines = traceback.format_exception_only(type(cause), cause)
    return "caused by " + "".join(user_frames(cause.__traceback__)) + "".join(lines)


def user_frames(tb: TracebackType | None) -> list[str]:
    """The frames that are not asparkle's; all of them if it is asparkle's own failure."""
    frames = traceback.extract_tb(tb)
    users = [f for f in frames if not os.path.abspath(f.filename).startswith(_OURS)]
    return traceback.format_list(users or frames)


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

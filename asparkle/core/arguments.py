"""The arguments of operations, checked when they are given: what was wrong, with which value, in which operation."""

from __future__ import annotations

import operator
from typing import Any

from asparkle.core.errors import ArgumentError, ArgumentTypeError
from asparkle.core.shown import shown


def function(f: Any, operation: str) -> Any:
    """``f``.  Raises ArgumentTypeError if it can't be called."""
    if not callable(f):
        raise ArgumentTypeError(f"{operation} needs a function, not {shown(f)} of type {type(f).__name__}")
    return f


def whole_number(n: Any, operation: str, name: str, least: int | None = None) -> int:
    """``n``, which may be an int of numpy, as an int.

    Raises ArgumentTypeError for what is no whole number, bool included, ArgumentError for less than ``least``.
    """
    expected = "a whole number" if least is None else f"a whole number, {least} or more"
    try:
        if isinstance(n, bool):
            raise TypeError
        number = operator.index(n)
    except TypeError:
        raise _wrong_type(n, operation, name, expected) from None
    if least is not None and number < least:
        raise ArgumentError(f"{operation}: {name} = {shown(n)}: expected {expected}")
    return number


def partitions(n: Any, operation: str) -> int:
    """A number of partitions."""
    return whole_number(n, operation, "numPartitions", 1)


def optional_partitions(n: Any, operation: str) -> int | None:
    """A number of partitions, or None."""
    return None if n is None else partitions(n, operation)


def text(value: Any, operation: str, name: str) -> str:
    """``value``.  Raises ArgumentTypeError if it is no string."""
    if not isinstance(value, str):
        raise _wrong_type(value, operation, name, "a string")
    return value


def job_tag(tag: Any) -> str:
    """``tag``.  Raises ArgumentError for an empty one or one with commas, and for what is no string."""
    if not isinstance(tag, str) or not tag or "," in tag:
        raise ArgumentError(f"job tag {shown(tag)}: expected a non-empty string without commas")
    return tag


def _wrong_type(value: Any, operation: str, name: str, expected: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{operation}: {name} = {shown(value)} of type {type(value).__name__}: expected {expected}"
    )

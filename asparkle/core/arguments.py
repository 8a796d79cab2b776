"""The arguments of operations, checked when they are given: what was wrong, with which value, in which operation."""

from __future__ import annotations

import itertools
import operator
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from math import inf, isfinite, sqrt
from numbers import Real
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import Any

from asparkle.core.errors import ArgumentError, ArgumentTypeError
from asparkle.core.shown import shown

_ASYNC = CO_COROUTINE | CO_ASYNC_GENERATOR
_PLAIN = frozenset({type, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType})


def function(f: Any, operation: str, name: str, *, takes_async: bool = False) -> Any:
    """``f``.  Raises ArgumentTypeError if it can't be called, or is a coroutine function and must not be."""
    if not callable(f):
        raise wrong_type(f, operation, name, "a function")
    if not takes_async and (code := getattr(f, "__code__", None)) is not None and code.co_flags & _ASYNC:
        raise wrong_type(f, operation, name, "a plain function: this operation awaits nothing, map() does")
    return f


def surely_plain(f: Any) -> bool:
    """Whether ``f`` is no coroutine function, as can be told at a glance; others need a closer look."""
    if type(f) is FunctionType:
        return not f.__code__.co_flags & _ASYNC
    return type(f) in _PLAIN


def optional_function(f: Any, operation: str, name: str) -> Any:
    """A function, or None."""
    return None if f is None else function(f, operation, name)


def elements(value: Any, operation: str, name: str, expected: str) -> list[Any]:
    """What ``value`` gives when it is iterated.  Raises ArgumentTypeError if it can't be, or is a string."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise wrong_type(value, operation, name, expected)
    return list(value)


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
        raise wrong_type(n, operation, name, expected) from None
    if least is not None and number < least:
        raise ArgumentError(f"{operation}: {name} = {shown(n)}: expected {expected}")
    return number


def number(value: Any, operation: str, name: str, expected: str, accepts: Callable[[float], bool]) -> float:
    """``value`` as a float.

    Raises ArgumentTypeError for what is no real number, bool included, ArgumentError for one that is not finite or
    that ``accepts`` refuses; ``expected`` says which are accepted.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong_type(value, operation, name, expected)
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number) or not accepts(number):
        raise ArgumentError(f"{operation}: {name} = {shown(value)}: expected {expected}")
    return number


def slices(n: Any, operation: str) -> int:
    """A number of partitions, or what ``int`` makes one of, as PySpark takes it where RDDs are made."""
    try:
        number = int(n)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(n, operation, "numSlices", "a whole number, 1 or more") from None
    return whole_number(number, operation, "numSlices", 1)


def seconds(value: Any, operation: str, name: str) -> float:
    """A positive number of seconds."""
    return number(value, operation, name, "a number of seconds, above 0", lambda x: x > 0)


def confidence(value: Any, operation: str) -> float:
    """A probability."""
    return number(value, operation, "confidence", "a number from 0 to 1", lambda x: 0 <= x <= 1)


def seed(value: Any, operation: str) -> int | None:
    """A whole number, or None."""
    return None if value is None else whole_number(value, operation, "seed")


def fraction(value: Any, operation: str, with_replacement: bool) -> float:
    """The part of the elements that a sample takes; without replacement that is all of them at most."""
    if not with_replacement and value == inf:
        return 1.0
    part = number(value, operation, "fraction", "a number, 0 or more", lambda x: x >= 0)
    return part if with_replacement else min(part, 1.0)


def fractions(value: Any, operation: str) -> dict[Any, float]:
    """A fraction for each key."""
    if not isinstance(value, Mapping):
        raise wrong_type(value, operation, "fractions", "a dict with a fraction for each key")
    return {key: not_negative(number, operation, f"fractions[{shown(key)}]") for key, number in value.items()}


def cumulated(weights: Any, operation: str, name: str) -> list[float]:
    """0.0, and what the weights make, added up one by one, of their sum."""
    numbers = [not_negative(w, operation, name) for w in elements(weights, operation, name, "a list of numbers")]
    total = sum(numbers)
    if not 0 < total < inf:
        raise ArgumentError(f"{operation}: {name} = {shown(weights)}: expected numbers with a sum above 0")
    return list(itertools.accumulate([number / total for number in numbers], initial=0.0))


def not_negative(value: Any, operation: str, name: str) -> float:
    return number(value, operation, name, "a number, 0 or more", lambda x: x >= 0)


def sample_size(num: Any) -> int:
    """How many elements `takeSample` takes."""
    number = whole_number(num, "takeSample", "num", 0)
    most = sys.maxsize - int(10 * sqrt(sys.maxsize))
    if number > most:
        raise ArgumentError(f"takeSample: num = {number}: expected at most {most}")
    return number


def path(value: Any, operation: str, name: str, expected: str = "a path") -> str:
    """A path, which may be one of pathlib, as a string."""
    try:
        return text(os.fspath(value), operation, name)
    except TypeError:
        raise wrong_type(value, operation, name, expected) from None


def paths(value: Any, operation: str, name: str) -> str:
    """A path, or several in one string."""
    return path(value, operation, name, "a path, or several in one string with commas")


def partitions(n: Any, operation: str) -> int:
    """A number of partitions."""
    return whole_number(n, operation, "numPartitions", 1)


def optional_partitions(n: Any, operation: str) -> int | None:
    """A number of partitions, or None."""
    return None if n is None else partitions(n, operation)


def text(value: Any, operation: str, name: str) -> str:
    """``value``.  Raises ArgumentTypeError if it is no string."""
    if not isinstance(value, str):
        raise wrong_type(value, operation, name, "a string")
    return value


def job_tag(tag: Any) -> str:
    """``tag``.  Raises ArgumentError for an empty one or one with commas, and for what is no string."""
    if not isinstance(tag, str) or not tag or "," in tag:
        raise ArgumentError(f"job tag {shown(tag)}: expected a non-empty string without commas")
    return tag


def wrong_type(value: Any, operation: str, name: str, expected: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{operation}: {name} = {shown(value)} of type {type(value).__name__}: expected {expected}"
    )

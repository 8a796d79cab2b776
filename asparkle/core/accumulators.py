"""Accumulators: variables that tasks add to and the driver reads.

Each attempt adds to a copy of its own, which starts from the parameter's zero.  What a successful attempt
has added travels with its result; the driver merges it once per partition of an action or a shuffle, whatever
was retried, resubmitted or run twice for speed.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Generic, TypeVar

from asparkle.core.errors import ArgumentTypeError, UserFunctionError
from asparkle.core.shown import shown
from asparkle.core.taskcontext import TaskContext

T = TypeVar("T")
_ids = itertools.count()

live_accumulators: weakref.WeakValueDictionary[int, Accumulator[Any]] = weakref.WeakValueDictionary()
"""The drivers' own, by number: whichever context's job adds to one, it counts."""


class AccumulatorParam(Generic[T]):
    """How values of type T accumulate: subclass it for types that ``+`` alone does not serve.

    >>> class SetParam(AccumulatorParam):
    ...     def zero(self, value):
    ...         return set()
    ...     def addInPlace(self, one, other):
    ...         one |= other
    ...         return one
    """

    def zero(self, value: T, /) -> T:
        """The neutral value that fits ``value`` (same length, same keys, ...); tasks start from it."""
        raise NotImplementedError

    def addInPlace(self, value1: T, value2: T, /) -> T:
        """The sum of both; ``value1`` may be changed and returned."""
        raise NotImplementedError


class AddingAccumulatorParam(AccumulatorParam[Any]):
    """Accumulates with ``+=`` from a given zero: for numbers."""

    def __init__(self, zero_value: Any) -> None:
        self.zero_value = zero_value

    def zero(self, value: Any) -> Any:
        return self.zero_value

    def addInPlace(self, value1: Any, value2: Any) -> Any:
        value1 += value2
        return value1


class Accumulator(Generic[T]):
    """A shared variable that tasks can add to, and only the driver can read.

    Made by ``SparkContext.accumulator``.  Updates made in an action count exactly once per
    partition.  ``value`` in a task raises UserFunctionError.
    """

    def __init__(self, value: T, param: AccumulatorParam[T], identity: int | None = None) -> None:
        self.aid = next(_ids) if identity is None else identity
        self.accum_param = param
        self._value = value
        self._in_task = False

    @property
    def value(self) -> T:
        """The sum so far.  Driver only."""
        if self._in_task or TaskContext.get() is not None:
            raise UserFunctionError(
                "an accumulator's value can't be read in a task, only added to; read it in the driver"
            )
        return self._value

    @value.setter
    def value(self, value: T) -> None:
        if self._in_task or TaskContext.get() is not None:
            raise UserFunctionError("an accumulator's value can't be set in a task; use add()")
        self._value = value

    def add(self, term: T) -> None:
        """Add ``term``."""
        if not self._in_task and TaskContext.get() is not None:
            # A module's function finds the driver's own object here, where tasks run in its process.
            _in_task(self.aid, self.accum_param.zero(self._value), self.accum_param).add(term)
            return
        self._value = self.accum_param.addInPlace(self._value, term)

    def __iadd__(self, term: T) -> Accumulator[T]:
        self.add(term)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        zero = self.accum_param.zero(self._value)
        return (_in_task, (self.aid, zero, self.accum_param))

    def __str__(self) -> str:
        return str(self._value)

    def __repr__(self) -> str:
        return f"Accumulator<id={self.aid}, value={self._value}>"


def _in_task(identity: int, zero: Any, param: AccumulatorParam[Any]) -> Accumulator[Any]:
    """The running attempt's copy of an accumulator: one per attempt, however often it is referred to."""
    context = TaskContext.get()
    if context is not None and identity in context._accumulators:
        known: Accumulator[Any] = context._accumulators[identity]
        return known
    copy: Accumulator[Any] = Accumulator(zero, param, identity)
    copy._in_task = True
    if context is not None:
        context._accumulators[identity] = copy
    return copy


def updates_of(context: TaskContext) -> list[tuple[int, Any]]:
    """What the attempt has added, by accumulator."""
    return [(aid, copy._value) for aid, copy in context._accumulators.items()]


def default_param(value: Any) -> AccumulatorParam[Any]:
    """The parameter for a plain number."""
    if not isinstance(value, (int, float, complex)):
        raise ArgumentTypeError(
            f"no default accumulator for {shown(value)} of type {type(value).__name__}: "
            "pass an AccumulatorParam that says what its zero is and how two values add up"
        )
    return AddingAccumulatorParam(0 if isinstance(value, bool) else type(value)(0))

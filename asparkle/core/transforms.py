"""The narrow operations as workers run them: small picklable objects over C iterators.

They are classes rather than closures so that a stage's binary holds a reference to the class and the
user's function, instead of our own code by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from operator import itemgetter
from types import CoroutineType
from typing import Any

from asparkle.core.errors import UserFunctionError
from asparkle.core.pairs import item_of_each, not_a_pair
from asparkle.core.program import Transform
from asparkle.core.shown import NOT_AWAITED, name_of, shown


class _OfFunction(Transform):
    """A transform that is one user function and a way to apply it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def functions(self) -> Sequence[Callable[..., Any]]:
        return (self.function,)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.function,))


class FirstCall:
    """A plain function's first call in a partition, refused if it returns a coroutine, which nothing would await.

    Its other calls are made without us: they cost what they did.
    """

    __slots__ = ("function", "operation")

    def __init__(self, function: Callable[..., Any], operation: str) -> None:
        self.function = function
        self.operation = operation

    def __call__(self, element: Any) -> Any:
        try:
            result = self.function(element)
        except StopIteration as error:
            raise RuntimeError("a function raised StopIteration") from error  # as through a generator
        refuse_coroutine(result, f"{self.operation}: {name_of(self.function)} returned")
        return result


def refuse_coroutine(value: Any, what: str) -> None:
    """Raises UserFunctionError if ``value`` is a coroutine; ``what``: the message's beginning."""
    if type(value) is CoroutineType:
        value.close()
        raise UserFunctionError(f"{what} the coroutine {value.__qualname__}(), which nothing awaits: {NOT_AWAITED}")


class Map(_OfFunction):
    __slots__ = ()
    elementwise = True
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return map(self.function, elements)


class FlatMap(_OfFunction):
    __slots__ = ()
    elementwise = True
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return chain.from_iterable(map(self.function, elements))


class Filter(_OfFunction):
    __slots__ = ()
    elementwise = True
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        first = filter(FirstCall(self.function, "filter"), islice(elements, 1))
        return chain(first, filter(self.function, elements))


class MapPartitions(_OfFunction):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return iterable(self.function(elements), self.function, "mapPartitions")


class MapPartitionsWithIndex(_OfFunction):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return iterable(self.function(partition, elements), self.function, "mapPartitionsWithIndex")


def iterable(value: Any, function: Callable[..., Any], operation: str) -> Iterable[Any]:
    """What a user's function returned.  Raises UserFunctionError if it can't be iterated."""
    refuse_coroutine(value, f"{operation}: {name_of(function)} returned")
    if hasattr(value, "__iter__") or hasattr(value, "__getitem__"):
        return value  # type: ignore[no-any-return]
    raise UserFunctionError(
        f"{operation}: {name_of(function)} returned {shown(value)}, which is not iterable; "
        "yield its results, or return a list (an empty one for none)"
    )


class KeyBy(_OfFunction):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        function = self.function
        call: Callable[[Any], Any] = FirstCall(function, "keyBy")
        for x in elements:
            yield call(x), x
            call = function


class MapValues(_OfFunction):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        function = self.function
        call: Callable[[Any], Any] = FirstCall(function, "mapValues")
        for element in elements:
            try:
                key, value = element[0], element[1]
            except (TypeError, LookupError) as error:
                raise not_a_pair(element, "mapValues") from error
            yield key, call(value)
            call = function


class FlatMapValues(_OfFunction):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        function = self.function
        for element in elements:
            try:
                key, value = element[0], element[1]
            except (TypeError, LookupError) as error:
                raise not_a_pair(element, "flatMapValues") from error
            for x in function(value):
                yield key, x


class Keys(Transform):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return item_of_each(0, elements, "keys")


class Values(Transform):
    __slots__ = ()
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return item_of_each(1, elements, "values")


class Unnumbered(Transform):
    """The second of each of our own pairs."""

    __slots__ = ()
    elementwise = True
    per_element = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return map(itemgetter(1), elements)


class Glom(Transform):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return (list(elements),)


class WithIndex(Transform):
    """Pairs each element with its position: ``starts[partition]`` and up."""

    __slots__ = ("starts",)

    def __init__(self, starts: Sequence[int]) -> None:
        self.starts = starts

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return zip(elements, count(self.starts[partition]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (WithIndex, (self.starts,))


class WithUniqueId(Transform):
    """Pairs each element with a number: of ``partitions``, every so many-th from the partition's own on."""

    __slots__ = ("partitions",)

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def __call__(self, partition: int, elements: Iterator[Any]) -> Iterable[Any]:
        return zip(elements, count(partition, self.partitions))

    def __reduce__(self) -> tuple[Any, ...]:
        return (WithUniqueId, (self.partitions,))


# ------------------------------------------------------------------------------ what tasks return


class Sink:
    """The end of a result task: consumes a partition and returns the task's value.

    ``exhausts``: it reads to the end whenever it returns normally.
    """

    __slots__ = ()
    exhausts: bool = True

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        raise NotImplementedError


class CollectList(Sink):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        return _looked_at(list(elements))


def _looked_at(elements: list[Any]) -> list[Any]:
    """``elements``, of which the first is not what a plain function has returned in place of a value."""
    if elements:
        refuse_coroutine(elements[0], "an element is")
    return elements


class Count(Sink):
    __slots__ = ()

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        total, step = 0, 4096
        while True:
            n = len(_looked_at(list(islice(elements, step))))  # a C loop, in bounded memory
            total += n
            if n < step:
                return total


class TakeFirst(Sink):
    __slots__ = ("n",)
    exhausts = False

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        return _looked_at(list(islice(elements, self.n)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TakeFirst, (self.n,))


class Call(Sink):
    """A user's (or an action's) function of the partition's iterator."""

    __slots__ = ("function",)
    exhausts = False

    def __init__(self, function: Callable[[Iterator[Any]], Any]) -> None:
        self.function = function

    def __call__(self, partition: int, elements: Iterator[Any]) -> Any:
        return self.function(elements)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Call, (self.function,))


class CallToEnd(Call):
    """A function that is known to read the iterator to its end."""

    __slots__ = ()
    exhausts = True

    def __reduce__(self) -> tuple[Any, ...]:
        return (CallToEnd, (self.function,))

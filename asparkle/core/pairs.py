"""Elements that should be (key, value) pairs, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from asparkle.core.errors import UserFunctionError
from asparkle.core.shown import shown


def pairs(elements: Iterable[Any], operation: str) -> Iterator[tuple[Any, Any]]:
    """``elements``, of which each must be a pair; what is not gives an error that shows it."""
    for element in elements:
        try:
            key, value = element
        except (TypeError, ValueError) as error:
            raise not_a_pair(element, operation) from error
        yield key, value


def item_of_each(i: int, elements: Iterable[Any], operation: str) -> Iterator[Any]:
    """Item ``i`` of each element: of pairs mostly, but as in PySpark they may be longer."""
    for element in elements:
        try:
            item = element[i]
        except (TypeError, LookupError) as error:
            raise not_a_pair(element, operation) from error
        yield item


def first_two(elements: Iterable[Any], operation: str) -> Iterator[tuple[Any, Any]]:
    """The first two items of each element: what some operations take for its key and its value."""
    for element in elements:
        try:
            pair = element[0], element[1]
        except (TypeError, LookupError) as error:
            raise not_a_pair(element, operation) from error
        yield pair


def first_item(element: Any, operation: str) -> Any:
    """The key of what should be a pair."""
    return next(item_of_each(0, (element,), operation))


def is_pair(element: Any) -> bool:
    """Whether ``element`` can be unpacked to a key and a value."""
    try:
        _key, _value = element
    except (TypeError, ValueError):
        return False
    return True


def check_pair(element: Any) -> None:
    """Raises `UserFunctionError` unless ``element`` is a pair."""
    if not is_pair(element):
        raise not_a_pair(element, "an operation on keys") from None


def not_a_pair(element: object, operation: str) -> UserFunctionError:
    return UserFunctionError(
        f"{operation} needs (key, value) pairs, and got {shown(element)} of type {type(element).__name__}; "
        "make pairs first, e.g. with keyBy(f) or map(lambda x: (key, x))"
    )

"""Users' values in error messages: whatever they are, the message stays short and comes out."""

from __future__ import annotations

import functools

import pytest

from asparkle.core.errors import UserFunctionError
from asparkle.core.pairs import check_pair, item_of_each, pairs
from asparkle.core.shown import name_of, shown


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no repr today")


def nested(depth):
    inner = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("value", [None, 17, "text", (1, "a"), [1, 2, 3], {"k": [1.5]}, {1}, b"bytes", True])
def test_small_values_are_shown_as_they_are(value):
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        nested(10_000),
        "x" * 1_000_000,
        list(range(1_000_000)),
        10**10_000,
        {i: str(i) * 50 for i in range(1000)},
        [["y" * 500] * 500] * 500,
        Unshowable(),
        [Unshowable()],
        (Unshowable(), nested(10_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_in_200_characters(value):
    assert 0 < len(shown(value)) <= 200


def test_functions_are_named():
    assert name_of(nested) == "nested"
    assert name_of(functools.partial(nested, 3)).startswith("functools.partial(")


def not_pairs():
    return [17, nested(10_000), Unshowable()]


@pytest.mark.parametrize(
    "check",
    [check_pair, lambda x: list(pairs([x], "lookup")), lambda x: list(item_of_each(1, [x], "values"))],
    ids=["shuffle", "pairs", "item"],
)
@pytest.mark.parametrize("element", not_pairs(), ids=lambda element: type(element).__name__)
def test_what_is_not_a_pair_is_said_alike_everywhere(check, element):
    with pytest.raises(
        UserFunctionError, match=r"needs \(key, value\) pairs, and got .* of type \w+; make pairs"
    ) as error:
        check(element)
    assert len(str(error.value)) < 400

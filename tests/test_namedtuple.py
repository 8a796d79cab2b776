"""asparkle.core.namedtuple against typing.NamedTuple, its model."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core.namedtuple import NamedTuple


class Ours(NamedTuple):
    """Three fields."""

    a: int
    b: str = "b"
    c: tuple[int, ...] = ()

    CONSTANT = 3

    @property
    def twice(self) -> int:
        return self.a * 2

    @classmethod
    def of(cls, a: int) -> Ours:
        return cls(a, c=(a,))

    def shown(self) -> str:
        return f"{__class__.__name__} {self.a}"  # type: ignore[name-defined]


class Model(typing.NamedTuple):
    a: int
    b: str = "b"
    c: tuple[int, ...] = ()


class OursEmpty(NamedTuple):
    pass


def attempt(function: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> tuple[str, typing.Any]:
    try:
        return "value", tuple(function(*args, **kwargs))
    except Exception as error:
        return "error", (type(error), str(error).replace("Ours", "Model").replace("<lambda>", "__new__"))


values = st.one_of(st.integers(), st.text(), st.none())


@given(st.lists(values, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), values))
def test_made_like_the_model(args: list[typing.Any], kwargs: dict[str, typing.Any]) -> None:
    ours, model = attempt(Ours, *args, **kwargs), attempt(Model, *args, **kwargs)
    assert ours[0] == model[0]
    if ours[0] == "value":
        assert ours == model
    else:
        assert ours[1][0] is model[1][0] is TypeError


def test_a_tuple_with_names() -> None:
    one = Ours(1, c=(2,))
    assert one == (1, "b", (2,)) and isinstance(one, tuple) and hash(one) == hash((1, "b", (2,)))
    assert (one.a, one.b, one.c) == tuple(one)
    assert one._asdict() == {"a": 1, "b": "b", "c": (2,)}
    assert one._replace(a=5) == (5, "b", (2,)) and type(one._replace(a=5)) is Ours
    assert Ours._make([1, 2, 3]) == (1, 2, 3)
    assert repr(one) == repr(Model(1, c=(2,))).replace("Model", "Ours")
    assert Ours._fields == Model._fields and Ours._field_defaults == Model._field_defaults
    assert Ours.__doc__ == "Three fields." and Ours.CONSTANT == 3
    assert Ours.of(4) == (4, "b", (4,)) and Ours(3).twice == 6 and Ours(3).shown() == "Ours 3"
    assert OursEmpty() == () and repr(OursEmpty()) == "OursEmpty()"
    match one:
        case Ours(1, b, c=rest):
            assert (b, rest) == ("b", (2,))
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copied_and_pickled(protocol: int) -> None:
    one = Ours(1)
    for copied in (pickle.loads(pickle.dumps(one, protocol)), copy.copy(one), copy.deepcopy(one)):
        assert copied == one and type(copied) is Ours


def test_no_larger_than_a_tuple_and_not_changed() -> None:
    assert not hasattr(Ours(1), "__dict__")
    with pytest.raises(AttributeError):
        Ours(1).a = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'd'"):
        Ours(1)._replace(d=2)


def test_defaults_come_last() -> None:
    with pytest.raises(TypeError, match="Wrong: a field without a default follows one with a default"):

        class Wrong(NamedTuple):
            a: int = 1
            b: int  # type: ignore[misc]

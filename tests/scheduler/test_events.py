"""The bus's events go through msgpack unchanged, between versions too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.core import events
from asparkle.core.events import (
    Event,
    RddInfo,
    StageInfo,
    TaskEnded,
    TaskMetrics,
    UnknownEvent,
    event_types,
    pack,
    unpack,
)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(),
    bool: st.booleans(),
    str | None: st.none() | st.text(),
    int | None: st.none() | st.integers(0, 2**40),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    tuple[int, ...]: st.lists(st.integers(0, 9)).map(tuple),
    tuple[tuple[str, str, int], ...]: st.lists(st.tuples(st.text(), st.text(), st.integers(0, 2**40))).map(tuple),
}


def made(kind: type) -> st.SearchStrategy[Any]:
    hints = {field.name: get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)}
    return st.builds(kind, **{name: VALUES[hint] for name, hint in hints.items()})


VALUES[tuple[bool, bool, bool, bool, int]] = st.tuples(*[st.booleans()] * 4, st.integers(1, 9))
VALUES[Mapping[str, str]] = st.dictionaries(st.text(), st.text(), max_size=3)
VALUES[TaskMetrics | None] = st.none() | made(TaskMetrics)
VALUES[tuple[RddInfo, ...]] = st.lists(made(RddInfo), max_size=3).map(tuple)
VALUES[tuple[StageInfo, ...]] = st.lists(made(StageInfo), max_size=3).map(tuple)


@pytest.mark.parametrize("kind", event_types().values(), ids=event_types())
def test_every_type_packs_and_unpacks_unchanged(kind: type[Event]) -> None:
    @given(made(kind))
    def check(event: Event) -> None:
        again = unpack(pack(event))
        assert again == event and type(again) is kind

    check()


@pytest.mark.parametrize("kind", event_types().values(), ids=event_types())
def test_every_type_is_frozen_slotted_and_versioned(kind: type[Event]) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.VERSION >= 1
    assert "__dict__" not in dir(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__doc__


ENDED = TaskEnded(1.0, 2, 3, 0, 4, 0, "a", "h", "success", 0.5)


def test_a_newer_writers_fields_are_skipped() -> None:
    document = msgpack.unpackb(pack(ENDED)) | {"version": 9, "colour": "red"}
    assert unpack(msgpack.packb(document)) == ENDED


def test_fields_that_an_older_writer_left_out_have_their_defaults() -> None:
    document = msgpack.unpackb(pack(ENDED))
    del document["seconds"], document["error"]
    assert unpack(msgpack.packb(document)) == dataclasses.replace(ENDED, seconds=0.0)


def test_an_unknown_type_is_kept_as_it_is() -> None:
    data = msgpack.packb({"type": "Eclipse", "version": 3, "time": 1.5, "moon": "new"})
    event = unpack(data)
    assert event == UnknownEvent(1.5, "Eclipse", 3, {"moon": "new"})
    assert pack(event) == data


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgpack.packb(7), msgpack.packb({"type": "JobEnded"}), msgpack.packb({"version": 1})],
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed event"):
        unpack(data)


def test_an_event_without_what_it_needs_is_refused() -> None:
    with pytest.raises(ValueError, match="JobEnded of version 1"):
        unpack(msgpack.packb({"type": "JobEnded", "version": 1, "time": 0.0}))


def test_the_module_can_be_imported_without_msgpack() -> None:
    assert not hasattr(events, "msgpack")

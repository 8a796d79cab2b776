"""Serializers that are broken on purpose, each in one way.  Run by `test_broken`."""

from __future__ import annotations

import copy
import json
import marshal
import pickle
import threading

from asparkle.core.contracts import Serializer
from asparkle.plugins.serializers import Pickle
from asparkle.testing import SerializerConformance


class Json(Serializer):
    """Tuples come back as lists."""

    def dumps(self, value):
        return [json.dumps(value).encode()]

    def loads(self, chunks):
        return json.loads(bytes(chunks[0]))


class TestJson(SerializerConformance):
    elements = (None, 1, "text", [1], (1, 2))

    def make(self, app):
        return Json(app)


class NeedsBytes(Serializer):
    """Takes what it has read for bytes."""

    def dumps(self, value):
        return [json.dumps(value).encode()]

    def loads(self, chunks):
        return json.loads(chunks[0].decode())


class TestNeedsBytes(SerializerConformance):
    elements = (None, 1, "text", [1])

    def make(self, app):
        return NeedsBytes(app)


class ReusesItsBuffer(Pickle):
    is_pickle = False
    buffer = bytearray(1 << 24)

    def dumps(self, value):
        data = pickle.dumps(value)
        self.buffer[: len(data)] = data
        return [memoryview(self.buffer)[: len(data)]]


class TestReusesItsBuffer(SerializerConformance):
    def make(self, app):
        return ReusesItsBuffer(app)


class RemembersWhatItSaw(Pickle):
    """Strings by number, which only the object knows that has given it."""

    is_pickle = False

    def __init__(self, app):
        super().__init__(app)
        self.known = []

    def dumps(self, value):
        self.known.append(pickle.dumps(value))
        return [b"%d" % (len(self.known) - 1)]

    def loads(self, chunks):
        return pickle.loads(self.known[int(bytes(chunks[0]))])


class TestRemembersWhatItSaw(SerializerConformance):
    def make(self, app):
        return RemembersWhatItSaw(app)


class GivesTheSameAgain(Pickle):
    """A cache of what was loaded."""

    loaded = {}

    def loads(self, chunks):
        key = b"".join(chunks)
        if key not in self.loaded:
            self.loaded[key] = super().loads(chunks)
        return self.loaded[key]


class TestGivesTheSameAgain(SerializerConformance):
    def make(self, app):
        return GivesTheSameAgain(app)


class LeavesOut(Pickle):
    """What can't be serialized is None."""

    def dumps(self, value):
        try:
            return super().dumps(value)
        except Exception:
            return super().dumps(None)


class TestLeavesOut(SerializerConformance):
    def make(self, app):
        return LeavesOut(app)


class SaysPickle(Serializer):
    is_pickle = True

    def dumps(self, value):
        return [b"\x80\x05" + marshal.dumps(value)]

    def loads(self, chunks):
        return marshal.loads(bytes(chunks[0])[2:])


class TestSaysPickle(SerializerConformance):
    elements = (None, 1, "text", [1], (1, [2]))

    def make(self, app):
        return SaysPickle(app)


class Empties(Pickle):
    """Takes elements out of the list as it goes."""

    def dumps(self, value):
        chunks = super().dumps(copy.copy(value))
        if isinstance(value, list):
            value.clear()
        return chunks


class TestEmpties(SerializerConformance):
    def make(self, app):
        return Empties(app)


class OneBytes(Pickle):
    """Bytes, where a sequence of chunks is expected."""

    is_pickle = False

    def dumps(self, value):
        return pickle.dumps(value)

    def loads(self, chunks):
        return pickle.loads(chunks)


class TestOneBytes(SerializerConformance):
    def make(self, app):
        return OneBytes(app)


class NotInThreads(Pickle):
    """What is being dumped is kept in the object."""

    is_pickle = False

    def __init__(self, app):
        super().__init__(app)
        self.value = None
        self.turn = threading.Lock()

    def dumps(self, value):
        self.value = value
        for _ in range(100):
            pass
        with self.turn:
            return [pickle.dumps(self.value)]


class TestNotInThreads(SerializerConformance):
    def make(self, app):
        return NotInThreads(app)

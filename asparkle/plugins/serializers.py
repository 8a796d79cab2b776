"""The serializer that comes with asparkle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asparkle.plugins import Buffer, Serializer, dumps, loads


class Pickle(Serializer):
    """Pickle protocol 5; what plain pickle can't do goes through cloudpickle."""

    is_pickle = True

    def dumps(self, value: object) -> Sequence[Buffer]:
        return dumps(value)

    def loads(self, chunks: Sequence[Buffer]) -> Any:
        return loads(chunks)

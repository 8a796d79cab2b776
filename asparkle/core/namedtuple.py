"""`typing.NamedTuple`, made in a quarter of the time.

Seventy small classes are made before the first job can run; so each takes care of its time.
For a type checker this is `typing.NamedTuple`; when it runs, it is the same without what messages do not need:
no evaluated annotations, no ``rename``, no docstring for each field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    try:
        from _collections import _tuplegetter
    except ImportError:  # not CPython
        from operator import itemgetter

        def _tuplegetter(index: int, doc: str | None) -> property:
            return property(itemgetter(index), doc=doc)

    class _Methods(tuple):
        """What all named tuples share."""

        __slots__ = ()

        @classmethod
        def _make(cls, values: Any) -> Any:
            return cls(*values)

        def _replace(self, **changes: Any) -> Any:
            return type(self)(**{**self._asdict(), **changes})

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._asdict().items())})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    class _Maker(type):
        """Makes of a class statement a plain class, as `typing.NamedTuple` does."""

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            new = eval(
                f"lambda _cls{''.join(f', {field}' for field in fields)}: "
                f"_tuple_new(_cls, ({''.join(f'{field}, ' for field in fields)}))",
                {"_tuple_new": tuple.__new__, "__builtins__": {}, "__name__": namespace["__module__"]},
            )
            new.__name__, new.__qualname__ = "__new__", f"{name}.__new__"
            if any(field not in defaults for field in fields[len(fields) - len(defaults) :]):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            new.__defaults__ = tuple(defaults.values())
            shared = {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            getters = {field: _tuplegetter(index, None) for index, field in enumerate(fields)}
            return type(name, (_Methods,), {**namespace, **shared, **getters, "__new__": new})

    class NamedTuple(metaclass=_Maker):
        """The base of class statements."""

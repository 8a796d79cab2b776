"""Rows: tuples whose fields have names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from asparkle.core.errors import ArgumentError, ArgumentTypeError, ModuleNotSupported, UserFunctionError
from asparkle.core.shown import shown

__all__ = ["Row"]


def __getattr__(name: str) -> Any:
    """Raises an ImportError, for ``from pyspark.sql.types import StructType`` is how this is met."""
    if name.startswith("_"):
        raise AttributeError(name)
    raise ModuleNotSupported(
        f"asparkle has no pyspark.sql.types.{name}: its columns have names and no types; give createDataFrame "
        "and toDF a list of names"
    )


class Row(tuple[Any, ...]):
    """A row of a `DataFrame`: a tuple, whose fields are read by number, by name, or as attributes.

    ``Row(name="Ann", age=11)`` is a row; ``Row("name", "age")`` makes rows when it is called with values.
    Rows compare and hash as the tuples of their values.  Raises ArgumentError for both kinds of arguments.

    >>> ann = Row(name="Ann", age=11)
    >>> ann, ann[0], ann["age"], ann.age, "age" in ann
    (Row(name='Ann', age=11), 'Ann', 11, 11, True)
    >>> Person = Row("name", "age")
    >>> Person("Bob", 5)
    Row(name='Bob', age=5)
    """

    __fields__: list[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Row:
        if args and kwargs:
            raise ArgumentError(f"Row: args = {shown(args)} and kwargs = {shown(kwargs)}: give one or the other")
        row = tuple.__new__(cls, kwargs.values() if kwargs else args)
        if kwargs:
            row.__fields__ = list(kwargs)
        return row

    def asDict(self, recursive: bool = False) -> dict[str, Any]:
        """The values by name; ``recursive``: rows inside become dicts, too, also those in lists and dicts.

        Raises ArgumentTypeError for a row without names.

        >>> Row(name="Ann", pet=Row(name="Rex")).asDict(recursive=True)
        {'name': 'Ann', 'pet': {'name': 'Rex'}}
        """
        fields = self.__dict__.get("__fields__")
        if fields is None:
            raise ArgumentTypeError(f"asDict: {self!r} has no names for its values; make it with Row(name=value)")
        return dict(zip(fields, map(_as_dict, self) if recursive else self, strict=False))

    def __contains__(self, item: object) -> bool:
        fields = self.__dict__.get("__fields__")
        return super().__contains__(item) if fields is None else item in fields

    def __call__(self, *values: Any) -> Row:
        """A row with these values, and this one's values as names."""
        if len(values) > len(self):
            raise ArgumentError(f"{self!r} has {len(self)} names, and {len(values)} values were given: {shown(values)}")
        return _create_row(self, values)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, (int, slice)):
            return super().__getitem__(item)
        fields = self.__dict__.get("__fields__", ())
        if item not in fields:
            raise ArgumentError(f"a row has no field {shown(item)}: it has {', '.join(fields) or 'no names'}")
        return super().__getitem__(fields.index(item))

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("__fields__", ())
        if name.startswith("__") or name not in fields:
            raise AttributeError(f"a row has no field {name!r}: it has {', '.join(fields) or 'no names'}")
        return super().__getitem__(fields.index(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "__fields__":
            raise AttributeError(f"a row can't be changed: make another one instead of setting {name!r}")
        self.__dict__[name] = value

    def __reduce__(self) -> Any:
        fields = self.__dict__.get("__fields__")
        return (Row, tuple(self)) if fields is None else (_create_row, (fields, tuple(self)))

    def __repr__(self) -> str:
        fields = self.__dict__.get("__fields__")
        if fields is None:
            return f"<Row({', '.join(map(repr, self))})>"
        return f"Row({', '.join(f'{name}={value!r}' for name, value in zip(fields, self, strict=False))})"


def _create_row(fields: Iterable[str], values: Iterable[Any]) -> Row:
    """A row of ``values`` with these names.  PySpark's pickles of rows call it by this name."""
    row = Row(*values)
    row.__fields__ = list(fields)
    return row


def _as_dict(value: Any) -> Any:
    if isinstance(value, Row):
        return value.asDict(recursive=True)
    if isinstance(value, list):
        return [_as_dict(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_dict(item) for key, item in value.items()}
    return value


# ---------------------------------------------------------------------- rows of what RDDs and lists hold


def names_of(element: Any) -> list[str]:
    """The columns that an element has by itself: a row's or named tuple's fields, a dict's keys sorted, _1, _2, ...

    Raises UserFunctionError for what is no row of several values.
    """
    if isinstance(element, dict):
        return sorted(element)
    if isinstance(element, tuple | list):
        fields = getattr(element, "__fields__", None) or getattr(element, "_fields", None)
        return list(fields) if fields else [f"_{i}" for i in range(1, len(element) + 1)]
    raise UserFunctionError(
        f"a row of a DataFrame is a Row, a tuple, a list or a dict, not {shown(element)} of type "
        f"{type(element).__name__}; for one column, map each element x to (x,)"
    )


class ToRow:
    """Elements as rows with ``columns``; ``keys``: where to look for these in dicts."""

    def __init__(self, columns: Sequence[str], keys: Sequence[str]) -> None:
        self.columns = list(columns)
        self.keys = list(keys)

    def __call__(self, element: Any) -> Row:
        if isinstance(element, dict):
            return _create_row(self.columns, [element.get(key) for key in self.keys])
        if len(names_of(element)) != len(self.columns):
            raise UserFunctionError(
                f"a row of {len(element)} values, {shown(element)}, in a DataFrame of {len(self.columns)} columns: "
                f"{', '.join(self.columns)}"
            )
        return _create_row(self.columns, element)

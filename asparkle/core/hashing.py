"""One hash for the same key in every process, whatever its PYTHONHASHSEED.

Python's own hash differs between processes for str, bytes and what is made of them.  Numbers, None and
tuples of ints hash exactly as PySpark's ``portable_hash`` has it (pyspark/core/rdd.py), so that these keys
lie in the partitions where Spark puts them.  Strings and bytes hash by zlib.crc32 of their UTF-8, the
quickest that the standard library has (170 ns a word with everything; blake2b takes 700); that its values
are even modulo small numbers is tested.

Which rule applies is looked up by the ``__hash__`` that a type inherits, so a subclass is treated as its
base until it defines a hash of its own.  Two keys that are equal hash alike, as Python demands.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Sequence
from math import isnan
from typing import Any
from zlib import crc32

from asparkle.core.errors import KeyHashError
from asparkle.core.shown import shown


def portable_hash(key: Any) -> int:
    """A hash of ``key`` that is the same in every process, and for equal keys.

    Known types: None, numbers (``1 == 1.0 == True == Decimal(1)`` hash alike; every NaN hashes to 0), str,
    bytes, tuple, frozenset, date, time, datetime (by instant where aware), timedelta, UUID, Path, Enum,
    range, numpy scalars (as the Python value they equal) and frozen dataclasses.  Types that define
    ``__hash__`` themselves fall to ``hash()``, which is the same in all workers, as they share one seed.

    Raises `KeyHashError` for keys that can't be hashed (list, dict, ...) and for those which only have the
    hash of their identity, as it means nothing in another process.

    >>> portable_hash((None, 1)) == portable_hash((None, 1.0))
    True
    """
    if key is None:
        return 0
    rule = _RULES.get(type(key).__hash__)
    return rule(key) if rule is not None else _hash_other(key)


def partitions_of(keys: Sequence[Any], n: int) -> list[int]:
    """``[portable_hash(k) % n for k in keys]``, by C loops where all keys are of one usual type."""
    return [h % n for h in _hashes_of(keys)]


def _hashes_of(keys: Sequence[Any]) -> Iterable[int]:
    kinds = set(map(type, keys))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is int:
            return map(hash, keys)
        if kind is str:
            try:
                return list(map(crc32, map(str.encode, keys)))
            except UnicodeEncodeError:  # lone surrogates
                return map(_hash_str, keys)
        if kind is float:
            return map(_hash_number if any(map(isnan, keys)) else hash, keys)
        if kind is tuple and len(set(map(len, keys))) == 1:
            return _hashes_of_tuples(keys)
        if kind.__module__ == "numpy" and kind.__name__.startswith(("int", "uint", "float", "bool")):
            return _hashes_of(sys.modules["numpy"].array(keys, dtype=kind).tolist())
    return map(portable_hash, keys)


def _hashes_of_tuples(keys: Sequence[tuple[Any, ...]]) -> list[int]:
    """As `_hash_tuple`, a column at a time."""
    mask = sys.maxsize
    hashes = [0x345678] * len(keys)
    for column in zip(*keys, strict=True):
        hashes = [((h ^ item) * 1000003) & mask for h, item in zip(hashes, _hashes_of(column), strict=True)]
    width = len(keys[0])
    return [h ^ width for h in hashes]


# ------------------------------------------------------------------------------------- a rule for each


def _hash_number(x: Any) -> int:
    if x != x:  # NaN, whose own hash is its identity
        return 0
    return hash(x)


def _hash_str(x: str) -> int:
    try:
        return crc32(x.encode())
    except UnicodeEncodeError:
        return crc32(x.encode("utf-8", "surrogatepass"))


def _hash_bytes(x: bytes | memoryview) -> int:
    return crc32(x)


def _hash_memoryview(x: memoryview) -> int:
    if not x.readonly:
        raise _not_hashable(x, "a writable memoryview can't be hashed")
    return crc32(x.tobytes())  # it equals the bytes that it views


def _hash_tuple(x: Iterable[Any]) -> int:
    h = 0x345678
    n = 0
    for item in x:
        h ^= portable_hash(item)
        h *= 1000003
        h &= sys.maxsize
        n += 1
    h ^= n
    return -2 if h == -1 else h


def _hash_frozenset(x: frozenset[Any]) -> int:
    # Independent of order; scrambled first, so that {1, 2} and {0, 3} differ (as frozenset.__hash__ does).
    h = len(x) * 1927868237
    for item in x:
        e = portable_hash(item)
        h ^= ((e ^ 89869747) ^ (e << 16)) * 3644798167
    return h & sys.maxsize


def _hash_date(x: Any) -> int:
    return _hash_tuple((x.year, x.month, x.day))


def _hash_time(x: Any) -> int:
    # Aware times are equal when they are the same time in UTC (datetime.time.__eq__).
    minutes = x.hour * 60 + x.minute
    offset = x.replace(fold=0).utcoffset()
    micros = (minutes * 60 + x.second) * 1_000_000 + x.microsecond
    return _hash_tuple((micros if offset is None else micros - _micros(offset), offset is not None))


def _hash_datetime(x: Any) -> int:
    # Aware ones are equal when they are the same instant; fold does not take part in equality.
    if x != x:  # pandas.NaT
        return 0
    micros = ((x.toordinal() * 24 + x.hour) * 60 + x.minute) * 60 + x.second
    micros = micros * 1_000_000 + x.microsecond
    offset = x.replace(fold=0).utcoffset()
    return _hash_tuple((micros if offset is None else micros - _micros(offset), offset is not None))


def _micros(x: Any) -> int:
    return int((x.days * 86400 + x.seconds) * 1_000_000 + x.microseconds)


def _hash_timedelta(x: Any) -> int:
    return hash(_micros(x))


def _hash_path(x: Any) -> int:
    # Equality ignores the difference between Path and PurePath, and case for Windows paths.
    windows = isinstance(x, sys.modules["pathlib"].PureWindowsPath)
    return _hash_str(str(x).lower() if windows else str(x))


def _hash_range(x: range) -> int:
    # Ranges are equal when they hold the same numbers.
    n = len(x)
    return _hash_tuple((n, x[0] if n else None, x.step if n > 1 else None))


def _hash_enum(x: Any) -> int:
    name = x._value_ if x._name_ is None else x._name_  # a Flag without a flag set has no name
    return _hash_tuple((type(x).__qualname__, name))


def _hash_numpy(x: Any) -> int:
    if x != x:  # NaN, NaT
        return 0
    kind = x.dtype.kind
    if kind in "mM":  # microseconds: units that differ may be equal, and nanoseconds have no Python type
        x = x.astype(f"{kind}8[us]")
    value = x.item()
    return hash(value) if type(value) is type(x) else portable_hash(value)


def _by_identity(x: object) -> int:
    kind = f"{type(x).__module__}.{type(x).__qualname__}"
    raise KeyHashError(
        f"{shown(x)} of type {kind} can't be a key: its hash is its identity, which differs from process to "
        f"process. Define __eq__ and __hash__ on {type(x).__qualname__}, make it a frozen dataclass, "
        "or use a key made of plain values"
    )


def _not_hashable(x: object, problem: str) -> KeyHashError:
    remedies: dict[type, str] = {
        list: "use a tuple: tuple(key)",
        set: "use a frozenset: frozenset(key)",
        dict: "use a tuple of its items: tuple(sorted(key.items()))",
        bytearray: "use bytes: bytes(key)",
    }
    otherwise = "give it a __hash__, or use a key made of plain values (a tuple, a string, ...)"
    remedy = remedies.get(type(x), otherwise)
    return KeyHashError(f"{shown(x)} can't be a key: {problem}; {remedy}")


_RULES: dict[Any, Callable[[Any], int]] = {
    int.__hash__: hash,
    float.__hash__: _hash_number,
    complex.__hash__: _hash_number,
    str.__hash__: _hash_str,
    bytes.__hash__: _hash_bytes,
    memoryview.__hash__: _hash_memoryview,
    tuple.__hash__: _hash_tuple,
    frozenset.__hash__: _hash_frozenset,
    range.__hash__: _hash_range,
    object.__hash__: _by_identity,
    types.MethodType.__hash__: _by_identity,
    types.BuiltinMethodType.__hash__: _by_identity,
    types.MethodWrapperType.__hash__: _by_identity,
}

_FIXED_RULES = len(_RULES)

# Types of modules that are imported only when somebody has such a key: where to find them, and their rule.
_LAZY_RULES: dict[tuple[str, str], Callable[[Any], int]] = {
    ("decimal", "Decimal"): _hash_number,
    ("fractions", "Fraction"): _hash_number,
    ("datetime", "date"): _hash_date,
    ("datetime", "time"): _hash_time,
    ("datetime", "datetime"): _hash_datetime,
    ("datetime", "timedelta"): _hash_timedelta,
    ("uuid", "UUID"): lambda x: hash(x.int),
    ("pathlib", "PurePath"): _hash_path,
    ("enum", "Enum"): _hash_enum,
}


def _hash_other(key: Any) -> int:
    """The first key of a type whose ``__hash__`` is not known yet: find its rule and remember it."""
    own = type(key).__hash__
    if own is None:
        raise _not_hashable(key, f"{type(key).__name__} is not hashable")
    rule = _find_rule(type(key), own)
    if len(_RULES) > 500:  # classes that are sent by value come anew with every stage
        for known in list(_RULES)[_FIXED_RULES:]:
            _RULES.pop(known, None)
    _RULES[own] = rule
    return rule(key)


def _find_rule(kind: type, own: Any) -> Callable[[Any], int]:
    for (module, name), rule in _LAZY_RULES.items():
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and known.__hash__ is own:
            return rule
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
        return _hash_numpy
    fields = _hashed_fields(kind, own)
    if fields is not None:
        return _dataclass_rule(fields)
    return hash


def _hashed_fields(kind: type, own: Any) -> tuple[str, ...] | None:
    """The fields that a dataclass's generated ``__hash__`` looks at; None if it is not a generated one."""
    for base in kind.__mro__:
        if base.__dict__.get("__hash__") is own:
            generated = getattr(getattr(own, "__code__", None), "co_filename", "") == "<string>"
            fields = base.__dict__.get("__dataclass_fields__")
            if fields is None or not generated:
                return None
            return tuple(
                f.name
                for f in fields.values()
                if f._field_type.name == "_FIELD" and (f.compare if f.hash is None else f.hash)
            )
    return None


def _dataclass_rule(fields: tuple[str, ...]) -> Callable[[Any], int]:
    return lambda x: _hash_tuple([getattr(x, name) for name in fields])

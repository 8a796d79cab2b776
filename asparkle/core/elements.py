"""Looking at elements: whether a task could change them, and how much memory they take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

_ATOMS = {type(None), bool, int, float, complex, str, bytes, range, type(...)}
_CONTAINERS = {tuple, frozenset}
# By name: their modules take time to import, and who has such an element has imported them.
_ATOM_NAMES = {
    "datetime": {"date", "time", "datetime", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "uuid": {"UUID"},
}
_MAX_DEPTH = 16


def is_immutable(elements: Iterable[object]) -> bool:
    """Whether no element, nor anything in it, can be changed: all are exactly None, numbers, str, bytes,
    Decimal, Fraction, date and time, UUID, Path, range, numpy scalars, or tuples and frozensets of such.

    ``elements`` must be re-iterable.  False when in doubt (subclasses, tuples nested beyond 16 deep).
    Some 15 ns an element: every level is looked at by a C loop.
    """
    level: Callable[[], Iterable[object]] = lambda: elements  # noqa: E731
    for _ in range(_MAX_DEPTH):
        types = set(map(type, level()))
        containers = types & _CONTAINERS
        if not all(map(_is_atom, types - containers)):
            return False
        if not containers:
            return True
        level = _flattened(level, containers == types)
    return False


def _flattened(level: Callable[[], Iterable[Any]], only_containers: bool) -> Callable[[], Iterable[object]]:
    if only_containers:
        return lambda: chain.from_iterable(level())
    return lambda: chain.from_iterable([x for x in level() if type(x) in _CONTAINERS])


def _is_atom(kind: type) -> bool:
    if kind in _ATOMS:
        return True
    if kind.__module__ == "numpy":
        numpy: Any = sys.modules.get("numpy")
        atom = issubclass(kind, numpy.generic) and not issubclass(kind, (numpy.void, numpy.object_))
    else:
        atom = kind.__name__ in _ATOM_NAMES.get(kind.__module__, ())
    if atom:
        _ATOMS.add(kind)
    return atom


_SAMPLE = 48


def estimate_size(elements: Any) -> int:
    """About how many bytes of memory the sequence ``elements`` takes with all that is in it.

    Looks at 48 elements spread evenly (and so on inside them), so its cost does not depend on the length;
    within a factor of two for usual data.  What several elements share counts once per sampled element
    at most; small ints and singletons count nothing.
    """
    return _deep_size(elements, set(), 0)


def _deep_size(obj: Any, seen: set[int], depth: int) -> int:
    """Size of ``obj`` and, by sample, of what it refers to; objects in ``seen`` are free."""
    kind = type(obj)
    if kind is int:
        return 32 if obj > 256 or obj < -5 else 0
    if kind is float:
        return 32
    if obj is None or kind is bool or id(obj) in seen:
        return 0
    seen.add(id(obj))
    own = _allocated(obj)
    if kind is str or kind is bytes or depth > _MAX_DEPTH:
        return own
    if isinstance(obj, (list, tuple, set, frozenset)):
        return own + _sampled_size(obj, seen, depth)
    if isinstance(obj, dict):
        return own + _sampled_size(obj.keys(), seen, depth) + _sampled_size(obj.values(), seen, depth)
    try:
        return own + _inner_size(obj, own, seen, depth)
    except Exception:  # code of the user's, run by our looking: no reason to fail
        return own


def _inner_size(obj: Any, own: int, seen: set[int], depth: int) -> int:
    """What an object of no built-in type takes beyond ``own``."""
    if hasattr(type(obj), "nbytes"):  # numpy arrays and their like
        of_objects = getattr(getattr(obj, "dtype", None), "hasobject", False)
        inside = _sampled_size(obj.ravel(), seen, depth) if of_objects else 0
        return max(0, int(obj.nbytes) + 112 - own) + inside
    return _attribute_size(obj, seen, depth)


def _allocated(obj: object) -> int:
    """What the allocator spends on the object alone: it rounds up to 16 bytes."""
    try:
        return (sys.getsizeof(obj, 64) + 15) & -16
    except Exception:
        return 64


def _sampled_size(items: Any, seen: set[int], depth: int) -> int:
    n = len(items)
    if n <= _SAMPLE:
        return sum([_deep_size(x, seen, depth + 1) for x in items])
    if isinstance(items, (list, tuple)) or hasattr(items, "ravel"):
        # Evenly spread from the middle of each stretch: the ends of sorted data are not typical.
        sample = [items[(2 * i + 1) * n // (2 * _SAMPLE)] for i in range(_SAMPLE)]
    else:
        sample = list(islice(items, _SAMPLE))
    return sum([_deep_size(x, seen, depth + 1) for x in sample]) * n // _SAMPLE


def _attribute_size(obj: object, seen: set[int], depth: int) -> int:
    size = 0
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict):
        size += _deep_size(attributes, seen, depth + 1)
    for kind in type(obj).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            size += _deep_size(getattr(obj, name, None), seen, depth + 1)
    return size

"""Functions on their way to workers: when and how they are pickled, what they reach, and what can't travel.

A stage's binary is its `Program`, with the user's functions in it.  Before pickling, the functions are
walked once, along their globals, cells and defaults.  The walk answers three questions.  Is the binary
small for certain, so that it may be pickled on the event loop?  Is all that the functions reach
immutable, so that a worker may use one unpickled copy for many attempts instead of a fresh one for each?
And is all of it found by name in a worker, so that plain pickle, four times as quick, does for cloudpickle?

A stage is pickled when a job needs it.  What a function refers to may have changed by then, so functions that must
stay what they are, those below a persisted RDD say, are pickled before: they are `fixed`.
"""

from __future__ import annotations

import functools
import io
import opcode
import operator
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pickle import PicklingError
from typing import Any, Final

import cloudpickle

from asparkle.core.broadcast import Broadcast, pickled_broadcasts
from asparkle.core.driveronly import DriverOnly
from asparkle.core.errors import NO_JOBS, AsparkleError, NestedContextError, PicklingFailed, place
from asparkle.core.namedtuple import NamedTuple
from asparkle.core.program import Program, Step, Transform
from asparkle.core.serializer import goes_by_value
from asparkle.core.shown import shown

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented)})
_LEVELS: Final = 100  # at which the search for what can't be pickled ends
_SMALL: Final = 4096  # characters or bytes of a constant which still counts as small
_WRITES: Final = frozenset(
    opcode.opmap[name]
    for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")
    if name in opcode.opmap
)
_STORE_DEREF: Final = opcode.opmap["STORE_DEREF"]
_BUILTINS: Final = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


# Modules of ours whose objects make up a program: these don't change once they are built.
_OUR_PLANS: Final = frozenset(
    f"asparkle.core.{name}"
    for name in (
        "checkpoints",
        "coroutines",
        "histograms",
        "lineage",
        "output",
        "partitioner",
        "picklefiles",
        "program",
        "rates",
        "reductions",
        "sampling",
        "sequencefiles",
        "shuffle.aggregator",
        "shuffle.steps",
        "source_steps",
        "transforms",
    )
)


class Reach(NamedTuple):
    """What is known of all that a program and its sink reach.

    ``reusable``: one unpickled copy of it can serve many attempts, and it is small.
    ``by_name``: workers find all functions and classes in it by their names.
    ``settled``: no variable that it refers to can be given another value.
    """

    reusable: bool
    by_name: bool
    settled: bool


def reach(program: Program, sink: object) -> Reach:
    """Walk along all that the program and its sink hold, up to the first that an attempt could change."""
    if program.profiler is not None:
        return Reach(False, False, False)
    parts = [part for step in program.steps for part in _parts(step)]
    # lists of steps' are ours, of the numbers of steps and partitions
    return _reach([*(part for part in parts if type(part) is not list), sink])


def _reach(parts: Iterable[Any]) -> Reach:
    walk = _Walk()
    try:
        for part in parts:
            walk.visit(part)
    except _Mutable:
        return Reach(False, False, False)
    return Reach(True, walk.by_name, walk.settled)


class _Mutable(Exception):
    """The walk met something that an attempt could change, or that may be large."""


def _parts(step: Step | Any) -> Iterator[Any]:
    """What a step, a transform or a sink holds, from its slots."""
    for name in _slots(type(step)):
        if name not in ("cached", "__weakref__"):
            yield getattr(step, name, None)
    yield from getattr(step, "__dict__", {}).values()


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


class _Walk:
    def __init__(self) -> None:
        self.by_name = self.settled = True  # what was met so far
        self._seen: set[int] = set()

    def visit(self, value: Any) -> None:
        kind = type(value)
        if kind in _ATOMS:
            if (kind is str or kind is bytes) and len(value) > _SMALL:
                raise _Mutable
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if kind is types.FunctionType:
            self._visit_function(value)
        elif kind is tuple or kind is frozenset:
            if len(value) > _SMALL:
                raise _Mutable
            for item in value:
                self.visit(item)
        elif kind is types.ModuleType or isinstance(value, (*_BUILTINS, Broadcast)):
            if kind is types.BuiltinFunctionType and not isinstance(value.__self__, (types.ModuleType, type(None))):
                self.visit(value.__self__)  # a bound method: list.append of some list
        elif kind is Fixed:
            self.by_name = self.settled = False
            if not value.snapshot.reusable:
                raise _Mutable
        elif isinstance(value, type):
            if goes_by_value(value.__module__):
                raise _Mutable  # its attributes can be set
        elif kind.__module__ in _OUR_PLANS:
            for part in _parts(value):
                # Nobody else holds our own lists: they are as immutable as what is in them.
                self.visit(tuple(part) if type(part) is list else part)
        else:
            raise _Mutable

    def _visit_function(self, function: types.FunctionType) -> None:
        if function.__dict__:
            raise _Mutable
        if not _by_value(function):
            return  # imported by the worker like any module: not ours to copy
        self.by_name = False
        self.visit(function.__defaults__)
        if function.__kwdefaults__:
            self.visit(tuple(function.__kwdefaults__.values()))
        for cell in function.__closure__ or ():
            try:
                contents = cell.cell_contents
            except ValueError:
                continue
            self.settled = False
            self.visit(contents)
        self._visit_code(function.__code__, function.__globals__)

    def _visit_code(self, code: types.CodeType, scope: Mapping[str, Any]) -> None:
        raw = code.co_code
        operations = set(raw[::2])
        if operations & _WRITES:
            raise _Mutable
        if code.co_freevars and _STORE_DEREF in operations:
            raise _Mutable
        for name in code.co_names:
            if name in scope:
                self.settled &= type(scope[name]) is types.ModuleType
                self.visit(scope[name])
        for constant in code.co_consts:
            if type(constant) is types.CodeType:
                self._visit_code(constant, scope)
            elif type(constant) in (str, bytes) and len(constant) > _SMALL:
                raise _Mutable


def _by_value(function: types.FunctionType) -> bool:
    """Whether cloudpickle sends the function's code rather than its name."""
    return goes_by_value(function.__module__) or not _is_found(function)


def _is_found(obj: Any) -> bool:
    """Whether a class or function is what its module has by its name."""
    try:
        return operator.attrgetter(obj.__qualname__)(sys.modules.get(obj.__module__)) is obj
    except AttributeError:
        return False


class Snapshot:
    """Parts of a program as they are when it is made: pickled together, and unpickled with the program.

    It keeps the broadcast variables among them alive.
    """

    __slots__ = ("_broadcasts", "_chunks", "reusable")

    def __init__(self, parts: Sequence[Any]) -> None:
        self.reusable = _reach(parts).reusable
        with pickled_broadcasts() as self._broadcasts:
            chunks = dumps(_Parts(parts), "a function of the RDD")
        self._chunks = [bytearray(chunk) for chunk in chunks]  # writable, as what a task unpickles is its own

    def __reduce__(self) -> tuple[Any, ...]:
        for broadcast in self._broadcasts:
            broadcast.__reduce__()  # raises if it was destroyed meanwhile
        if len(self._chunks) == 1:
            return _unpickled, (bytes(self._chunks[0]),)
        return _unpickled, tuple(map(pickle.PickleBuffer, self._chunks))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._chunks == other._chunks

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Sequence[Any]:
        """The parts, unpickled."""
        return _unpickled(*map(bytearray, self._chunks))


class _Parts:
    """A tuple of ours, through which the search for what can't be pickled sees."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts


def _unpickled(data: Any, *buffers: Any) -> Sequence[Any]:
    unpickled: _Parts = pickle.loads(data, buffers=buffers)
    return unpickled.parts


class Fixed(Transform):
    """A function, or a transform, that stays what it was when it was fixed; workers get itself.

    ``kind``: its type.  Two are equal if their pickles are.
    """

    __slots__ = ("__name__", "__qualname__", "_copy", "_index", "elementwise", "kind", "per_element", "snapshot")

    def __init__(self, snapshot: Snapshot, index: int, function: Callable[..., Any]) -> None:
        self.snapshot = snapshot
        self._index = index
        self._copy: Callable[..., Any] | None = None  # for the driver, once it calls it
        self.kind = type(function)
        self.__name__ = getattr(function, "__name__", self.kind.__name__)
        self.__qualname__ = getattr(function, "__qualname__", self.kind.__qualname__)
        self.elementwise = isinstance(function, Transform) and function.elementwise
        self.per_element = isinstance(function, Transform) and function.per_element

    def __call__(self, *arguments: Any) -> Any:
        if self._copy is None:
            self._copy = self.snapshot.copy()[self._index]
        return self._copy(*arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self._index == other._index and self.snapshot == other.snapshot

    def __hash__(self) -> int:
        return hash((self._index, self.__qualname__))

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (self.snapshot, self._index)


def fixed(*functions: Any) -> list[Any]:
    """``functions`` as they are now: those are pickled that refer to what may change.

    Raises what `dumps` raises.
    """
    varying = {id(function): function for function in functions if not _reach([function]).settled}
    if not varying:
        return list(functions)
    snapshot = Snapshot(list(varying.values()))
    found = {key: Fixed(snapshot, i, function) for i, (key, function) in enumerate(varying.items())}
    return [found.get(id(function), function) for function in functions]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which need not find out of each of our own classes and functions that it goes by name."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if (kind is type or kind is types.FunctionType) and _is_ours(obj):
            return NotImplemented
        return super().reducer_override(obj)


def _is_ours(obj: Any) -> bool:
    return (obj.__module__ or "").startswith("asparkle.core.") and _is_found(obj)


def dumps(value: Any, what: str, *, by_name: bool = False) -> list[Any]:
    """Pickle ``value`` with cloudpickle, or plainly where all goes by name: the pickle, then its out-of-band buffers.

    Raises `PicklingFailed`, or `NestedContextError` for an RDD or a context: either names the variable that can't
    travel and the way to it.
    """
    buffers: list[Any] = []
    file = io.BytesIO()
    pickler = pickle.Pickler if by_name else _Pickler
    try:
        pickler(file, protocol=5, buffer_callback=lambda b: buffers.append(b.raw())).dump(value)
    except Exception as error:
        if isinstance(error, AsparkleError) and not isinstance(error, NestedContextError):
            raise
        raise diagnose(value, what, error) from error
    return [file.getbuffer(), *buffers]


def diagnose(value: Any, what: str, error: BaseException) -> AsparkleError:
    """The error for a value that failed to pickle: looks for the smallest part that fails by itself.

    The way to it is told as the user wrote it, without the steps of ours; the search ends after many levels.
    """
    if _is_recursion(error):  # each part of it fails as well, so that the search would take long
        return PicklingFailed(what, reason="it is nested too deeply")
    path: list[str] = []
    name = held = ""  # held: the function's variable that leads to it
    seen: set[int] = set()
    current = value
    for _ in range(_LEVELS):
        seen.add(id(current))
        if isinstance(current, DriverOnly):
            break
        for label, variable, part in _reachable(current):
            if id(part) not in seen and (reason := _fails(part)) is not None:
                if isinstance(current, (types.FunctionType, types.MethodType)):
                    held = variable
                current, error = part, reason
                if label:
                    path.append(label)
                name = variable or name
                break
        else:
            break
    if isinstance(error, NestedContextError):
        return _captured(what, current, held, tuple(path))
    if held and isinstance(current, types.CoroutineType):
        told = _not_awaited(name, current)
    else:
        told = f"{type(current).__name__}: {error}" if path else str(error)
    return PicklingFailed(what, name, tuple(path), told)


def _is_recursion(error: BaseException | None) -> bool:
    """Whether an error is, or comes of, a recursion that was too deep."""
    while error is not None and not isinstance(error, RecursionError):
        error = error.__cause__ or error.__context__
    return error is not None


def _not_awaited(name: str, coroutine: types.CoroutineType[Any, Any, Any]) -> str:
    made = coroutine.__qualname__.rpartition("<locals>.")[2]
    call = made.replace("SparkContext.", "sc.").replace("RDD.", "rdd.")
    return f"{shown(name)} is the coroutine {made}(), which was not awaited: write `{name} = await {call}(...)`"


def _captured(what: str, culprit: object, held: str, path: tuple[str, ...]) -> NestedContextError:
    """The error for ``what``, which leads to an RDD or a context by the function's variable ``held``."""
    found = shown(culprit) if isinstance(culprit, DriverOnly) else "a SparkContext or RDD"
    remedy = NO_JOBS
    if held and path[-1].startswith("."):  # of an object, of which the function may need something else
        remedy = (
            f"copy what the function needs of {held} into a local variable first, such as k = {held}.k, and of an RDD "
            "collect() and broadcast the elements"
        )
    message = f"{what} holds {found}, which can't be used inside a task{place(held, path)}; {remedy}"
    return NestedContextError(message, held, path)


def _fails(value: Any) -> BaseException | None:
    try:
        cloudpickle.dumps(value, protocol=5)
    except (
        PicklingError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        OSError,
        NotImplementedError,
        RecursionError,
    ) as error:
        return error
    return None


def _reachable(value: Any) -> Iterator[tuple[str, str, Any]]:
    """(label for the path, variable name, part) of what ``value`` directly holds; no label for what is ours."""
    if type(value) is tuple and value and isinstance(value[0], Program):  # with its sink
        yield from (("", "", part) for part in value)
    elif isinstance(value, Program):
        yield from (("", "", step) for step in value.steps)
    elif isinstance(value, (Transform, Step)) or type(value).__module__.startswith("asparkle.core."):
        for part in _parts(value):
            for inner in part if type(part) in (list, tuple) else (part,):
                yield "", "", inner
    elif isinstance(value, types.FunctionType):
        where = describe(value)
        for variable, part in _variables(value):
            yield f"{where}: {variable}", variable, part
    elif isinstance(value, types.MethodType):
        yield f"method {value.__func__.__qualname__}: self", "self", value.__self__
    elif isinstance(value, functools.partial):
        yield "partial", "", value.func
        for i, part in enumerate(value.args):
            yield f"partial: argument {i}", "", part
        for variable, part in value.keywords.items():
            yield f"partial: {variable}", variable, part
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{shown(key)}]", key if isinstance(key, str) else shown(key), part
    elif isinstance(value, (list, tuple, set, frozenset)):
        for i, part in enumerate(value):
            yield f"[{i}]", "", part
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        for attribute, part in vars(value).items():
            yield f".{attribute}", attribute, part


def _variables(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    code = function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield variable, cell.cell_contents
        except ValueError:
            continue
    for variable in _global_names(code):
        if variable in function.__globals__:
            yield variable, function.__globals__[variable]
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[::-1], (function.__defaults__ or ())[::-1], strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def describe(function: Callable[..., Any]) -> str:
    """A function as its user knows it: name, file and line."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} at {code.co_filename}:{code.co_firstlineno}" if code else name

"""A notebook of cells that runs the same on PySpark and on both faces of asparkle.

A cell is a function in blocking PySpark style: it takes the context ``sc``, the namespace ``ns`` that all
cells share, and ``show``, which takes the place of ``print``.  What a cell shows is brought into a canonical
text, so that results from different engines can be compared as strictly as they are meant to agree:

    show(label, value)         the same value, the same order, the same types
    show.bag(label, value)     the same elements in any order: what comes out of a shuffle
    show.parts(label, value)   a list of partitions, each a bag, each in its place
    show.close(label, value)   numbers, or nested lists of them, up to rounding

Values of a group (the iterables of groupByKey and cogroup) are always a bag.  For ``asparkle.aio`` the source
of a cell is rewritten: `awaited` puts ``await`` before every call of a method that is a coroutine there.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
import textwrap
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

Shown = dict[str, Any]


@dataclass
class Cell:
    """``name``: unique in its notebook.  ``needs``: modules without which it is skipped."""

    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


@dataclass
class Outcome:
    """What a cell showed, by label, or how it failed, or why it was skipped."""

    shown: Shown = field(default_factory=dict)
    error: str = ""
    skipped: str = ""


class Notebook:
    """An ordered collection of cells; a decorator adds one."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def cell(self, *needs: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def add(run: Callable[..., Any]) -> Callable[..., Any]:
            self.cells.append(Cell(run.__name__, run, needs))
            return run

        return add

    def run(self, sc: Any, ns: SimpleNamespace) -> dict[str, Outcome]:
        """All cells in order, in blocking style; a cell that fails does not stop the next."""
        outcomes = {}
        for cell in self.cells:
            outcomes[cell.name] = outcome = Outcome()
            if cell.missing:
                outcome.skipped = f"needs {', '.join(cell.missing)}"
                continue
            try:
                cell.run(sc, ns, Show(outcome.shown))
            except Exception:
                outcome.error = traceback.format_exc()
        return outcomes

    async def run_aio(self, sc: Any, ns: SimpleNamespace, coroutines: set[str]) -> dict[str, Outcome]:
        """The same with the methods named in ``coroutines`` awaited."""
        outcomes = {}
        for cell in self.cells:
            outcomes[cell.name] = outcome = Outcome()
            if cell.missing:
                outcome.skipped = f"needs {', '.join(cell.missing)}"
                continue
            try:
                await awaited(cell.run, coroutines)(sc, ns, Show(outcome.shown))
            except Exception:
                outcome.error = traceback.format_exc()
        return outcomes


class Show:
    """Takes what a cell shows, by label, in canonical form."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def __call__(self, label: str, value: Any) -> None:
        self._add(label, canonical(value))

    def bag(self, label: str, value: Iterable[Any]) -> None:
        self._add(label, sorted(map(canonical, value)))

    def parts(self, label: str, value: Iterable[Iterable[Any]]) -> None:
        self._add(label, [sorted(map(canonical, part)) for part in value])

    def close(self, label: str, value: Any) -> None:
        self._add(label, {"close": _numbers(value)})

    def _add(self, label: str, form: Any) -> None:
        if label in self._shown:
            raise ValueError(f"a cell showed {label!r} twice")
        self._shown[label] = form


def canonical(value: Any) -> str:
    """``repr``, with the order taken out of what has none, and groups of values written as ``~[...]``."""
    if isinstance(value, Mapping):
        items = sorted(f"{canonical(k)}: {canonical(v)}" for k, v in value.items())
        return f"{type(value).__name__}({', '.join(items)})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({', '.join(sorted(map(canonical, value)))})"
    if type(value) is list:
        return f"[{', '.join(map(canonical, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(canonical, value))})"
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and type(value).__module__ != "numpy":
        return f"~[{', '.join(sorted(map(canonical, value)))}]"
    return repr(value)


def _numbers(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_numbers(item) for item in value]
    return float(value)


def agree(got: Any, recorded: Any) -> bool:
    """Whether two canonical forms are the same; those of ``show.close`` up to 1e-9 of the larger number."""
    if isinstance(recorded, dict) and isinstance(got, dict):
        return _close(got["close"], recorded["close"])
    return bool(got == recorded)


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, list) or isinstance(b, list):
        return False
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


# ---------------------------------------------------------------------------------------- the aio face


def coroutine_methods(module: ModuleType) -> set[str]:
    """The names of all public methods of the module's classes that are coroutine functions."""
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    return {
        name
        for cls in classes
        for name, method in inspect.getmembers(cls, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }


def awaited(run: Callable[..., Any], coroutines: set[str]) -> Callable[..., Awaitable[Any]]:
    """The cell ``run`` as a coroutine function, with every call of a method in ``coroutines`` awaited.

    What is inside a lambda or a nested function is a task's code and stays as it is.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(run)))
    [function] = tree.body
    assert isinstance(function, ast.FunctionDef)
    body = [_Awaiting(coroutines).visit(statement) for statement in function.body]
    replaced = ast.AsyncFunctionDef(
        **{name: getattr(function, name) for name in function._fields} | {"body": body, "decorator_list": []}
    )
    tree.body = [ast.copy_location(replaced, function)]
    ast.increment_lineno(tree, run.__code__.co_firstlineno - 1)
    namespace = dict(run.__globals__, _resolved=_resolved)
    exec(compile(ast.fix_missing_locations(tree), run.__code__.co_filename, "exec"), namespace)
    made: Callable[..., Awaitable[Any]] = namespace[run.__name__]
    return made


class _Awaiting(ast.NodeTransformer):
    def __init__(self, coroutines: set[str]) -> None:
        self._coroutines = coroutines

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in self._coroutines:
            resolved = ast.Call(ast.Name("_resolved", ast.Load()), [node], [])
            return ast.copy_location(ast.Await(resolved), node)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node


async def _resolved(value: Any) -> Any:
    """A list's ``count`` and an RDD's have one name; only what is awaitable is awaited."""
    return await value if inspect.isawaitable(value) else value

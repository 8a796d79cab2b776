"""Rewrites the parts of the reference that are made from the code: python docs/generate.py.

They stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test fails when they lag behind.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from asparkle.core.conf import KEYS, PREFIXES
from asparkle.core.storagelevel import StorageLevel

DOCS = Path(__file__).parent


def keys(prefix: str) -> str:
    """A table of the configuration keys that begin with ``prefix``."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in KEYS.values():
        if key.name.startswith(prefix):
            default = "`" + key.default.replace("|", "\\|") + "`" if key.default else ""
            lines.append(f"| `{key.name}` | {key.type} | {default} | {key.doc} |")
    lines += [f"| `{name}*` | text | | {doc} |" for name, doc in PREFIXES.items() if name.startswith(prefix)]
    return "\n".join(lines)


def load(path: str) -> Any:
    """The object that ``module:name`` is."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def public(cls: type) -> dict[str, object]:
    """The documented public members of a class and of what it inherits, in the order of their source."""
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__[:-1]):
        members |= {name: value for name, value in vars(base).items() if name[0] != "_" and inspect.getdoc(value)}
    return {name: value for name, value in members.items() if isinstance(value, property) or _is_method(value)}


def methods(path: str) -> str:
    """A section for each public method and property of a class."""
    return "\n\n".join(section(name, value) for name, value in public(load(path)).items())


def described(path: str) -> str:
    """What a class is, and its members."""
    return f"{_text(load(path))}\n\n{methods(path)}"


def fields(path: str) -> str:
    """What a named tuple is, and its fields."""
    cls = load(path)
    return f"{_text(cls)}\n\n" + ", ".join(
        f"`{name}`: {getattr(kind, '__forward_arg__', kind)}" for name, kind in cls.__annotations__.items()
    )


def contract(path: str) -> str:
    """What there is to implement: a section for each method, those included whose names say it all."""
    cls = load(path)
    own = {name: value for name, value in vars(cls).items() if name[0] != "_" and _is_method(value)}
    return "\n\n".join([_text(cls), *(section(name, value) for name, value in own.items())])


def table(path: str) -> str:
    """What a class of plain data is, and a table of its fields, with what the source says behind each."""
    return table_of(load(path))


def table_of(cls: type) -> str:
    lines = ["| field | type | meaning |", "|---|---|---|"]
    lines += [f"| {' | '.join(_field_cells(*field))} |" for field in documented_fields(cls)]
    return "\n\n".join(filter(None, [_text(cls), "\n".join(lines)]))


def documented_fields(cls: type) -> list[tuple[str, str, str]]:
    """Of each field that the class has by itself: name, type, and the comment behind it, which may be missing."""
    fields = re.finditer(r"^    (\w+): (.+?)(?: = .+?)?(?:  # (.*))?$", inspect.getsource(cls), re.MULTILINE)
    return [
        (name, kind, meaning or "") for name, kind, meaning in (found.groups() for found in fields) if name.islower()
    ]


def _field_cells(name: str, kind: str, meaning: str) -> list[str]:
    return [f"`{name}`" if name else "", _in_cell(kind), _in_cell(meaning)]


def _in_cell(text: str) -> str:
    return text.replace("|", "or").replace("*", "\\*")


def constructed(path: str) -> str:
    """How one of a class is made, and its members."""
    cls = load(path)
    return "\n\n".join(filter(None, (constructor(cls, cls.__name__, cls), methods(path))))


def constructor(cls: Any, name: str, *documented: object) -> str:
    return "\n\n".join([f"### `{name}({_parameters(cls.__init__)})`", *map(_text, documented)])


def context() -> str:
    """The two constructors, what only the blocking context has, and what both have."""
    blocking, asynchronous = load("asparkle:SparkContext"), load("asparkle.aio:SparkContext")
    both = public(asynchronous)
    sections = [
        constructor(blocking, "asparkle.SparkContext", blocking, blocking.__init__),
        constructor(asynchronous, "asparkle.aio.SparkContext", asynchronous, asynchronous.__init__),
    ]
    sections += [
        section(name, value, " *only in* `asparkle`") for name, value in public(blocking).items() if name not in both
    ]
    return "\n\n".join([*sections, *(section(name, value) for name, value in both.items())])


def section(name: str, member: object, note: str = "") -> str:
    if isinstance(member, property):
        return f"### `{name}`{note}\n\n{_text(member)}"
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    assert callable(function)
    return f"### `{name}({_parameters(function)})`{_kind(function)}{note}\n\n{_text(function)}".rstrip()


def _is_method(value: object) -> bool:
    return inspect.isroutine(value) or isinstance(value, classmethod | staticmethod)


def _kind(function: Callable[..., object]) -> str:
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return " *coroutine*" if is_async else ""


def _parameters(function: Callable[..., object], skip: int = 1) -> str:
    texts = []
    keyword_only = False
    for parameter in list(inspect.signature(function).parameters.values())[skip:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            texts.append("*")
        if isinstance(parameter.default, StorageLevel):
            texts.append(f"{parameter.name}=StorageLevel.{LEVELS[parameter.default]}")
        elif callable(parameter.default) and parameter.default is not parameter.empty:
            texts.append(f"{parameter.name}={parameter.default.__name__}")
        else:
            texts.append(str(parameter.replace(annotation=parameter.empty)))
    return ", ".join(texts)


def _levels() -> dict[StorageLevel, str]:
    """The name of each level; of several, the first: those after it are names of the past."""
    names: dict[StorageLevel, str] = {}
    for name, value in vars(StorageLevel).items():
        if isinstance(value, StorageLevel):
            names.setdefault(value, name)
    return names


LEVELS = _levels()


def levels() -> str:
    """How a level is made, and a table of those that have names."""
    table = ["| level | kept |", "|---|---|", *(f"| `{name}` | {level} |" for level, name in LEVELS.items())]
    return constructed("asparkle:StorageLevel") + "\n\n" + "\n".join(table)


def _text(value: object) -> str:
    """A docstring as Markdown."""
    text = (inspect.getdoc(value) or "").replace("``", "`")
    return re.sub(r"^(>>> .*(?:\n.+)*)", r"```pycon\n\1\n```", text, flags=re.MULTILINE)


def events() -> str:
    """One table of all events: when each comes, and its fields."""
    from asparkle.core.events import Event, UnknownEvent, event_types

    lines = ["| event | when | field | type | meaning |", "|---|---|---|---|---|"]
    for kind in [Event, *sorted(event_types().values(), key=lambda kind: kind.__name__), UnknownEvent]:
        name = "every event" if kind is Event else f"`{kind.__name__}`"
        head = [name, "" if kind is Event else _in_cell(_text(kind).replace("\n\n", " ").replace("\n", " "))]
        for field in documented_fields(kind) or [("", "", "")]:
            lines.append(f"| {' | '.join([*head, *_field_cells(*field)])} |")
            head = ["", ""]
    return "\n".join(lines)


def parts_of_events() -> str:
    """A table of each class that fields of events hold."""
    from asparkle.core import events

    return "\n\n".join(f"### {kind.__name__}\n\n{table_of(kind)}" for kind in events.PARTS.values())


def metrics() -> str:
    """A table of all metrics."""
    from asparkle.plugins.metrics import METRICS, TASK_TOTALS

    lines = ["| metric | kind | what |", "|---|---|---|"]
    for name, (kind, text, label, _) in METRICS.items():
        lines.append(f"| `{name}` | {kind}{f', by `{label}`' if label else ''} | {text} |")
    lines += [f"| `{name}` | counter | {text} |" for name, (_, text) in TASK_TOTALS.items()]
    return "\n".join(lines)


def helpers() -> str:
    """A table of what `asparkle.plugins` has besides contracts."""
    module = import_module("asparkle.plugins")
    contracts = vars(import_module("asparkle.core.contracts"))
    lines = ["| name | what |", "|---|---|"]
    for name in module.__all__:
        value = getattr(module, name)
        if name in contracts or name in TEXTS:
            continue
        called = f"{name}({_parameters(value, skip=0)})" if inspect.isfunction(value) else name
        lines.append(f"| `{called}` | {_in_cell(_text(value).partition(chr(10) * 2)[0].replace(chr(10), ' '))} |")
    lines += [f"| `{name}` | {text} |" for name, text in TEXTS.items()]
    return "\n".join(lines)


TEXTS = {
    "MapOutputId": "`(shuffle, partition, attempt)` of what one attempt at a map task writes.",
    "KEYS": "Every configuration key of asparkle's own by its name: `KEYS[name].read(conf)` is its value.",
    "API_VERSION": "What plugins are written against.",
    "Dial": "A function that connects to the file server of the host with a given name: see [Connection](#connection).",
    "ToExecutor": "A message of those that `Executor.send` gets: `encode` makes bytes of it.",
    "ToDriver": "A message of those that `Executor.receive` gives: what `MessageReader` makes of a worker's bytes.",
    "Rank": "What scheduling policies rank by: a tuple of numbers.",
}
"""Of names whose values have no docstring."""


def errors() -> str:
    """The tree of all errors, and a section for each."""
    module = import_module("asparkle.errors")
    kinds = sorted({getattr(module, name) for name in module.__all__}, key=lambda kind: _line_of(kind))
    tree = [f"{'  ' * _depth(kind)}- {_link(kind)}{_also(kind)}" for kind in _depth_first(kinds)]
    sections = [f"## `{kind.__name__}`\n\n{_text(kind)}" for kind in kinds]
    return "\n\n".join(["\n".join(tree), *sections])


def _line_of(kind: type) -> int:
    return inspect.getsourcelines(kind)[1]


def _depth_first(kinds: list[type], parent: type | None = None) -> list[type]:
    found = []
    for kind in kinds:
        if next((base for base in kind.__bases__ if base in kinds), None) is parent:
            found += [kind, *_depth_first(kinds, kind)]
    return found


def _depth(kind: type) -> int:
    return sum(base.__module__ == kind.__module__ for base in kind.__mro__) - 1


def _link(kind: type) -> str:
    return f"[`{kind.__name__}`](#{kind.__name__.lower()})"


def _also(kind: type) -> str:
    """The built-in types that an error is as well, where these say anything."""
    builtin = [base.__name__ for base in kind.__bases__ if base.__module__ != kind.__module__ and base is not Exception]
    article = "an" if builtin and builtin[0][0] in "AEIOU" else "a"
    return f", {article} `{'`, `'.join(builtin)}`" if builtin else ""


def options() -> str:
    """The launcher's options: what each sets, and why some are refused."""
    from asparkle.launcher.options import REFUSED, SETTINGS

    lines = ["| option | key | meaning |", "|---|---|---|"]
    lines += [f"| `{option} {value}` | `{key}` | {meaning} |" for option, (key, value, meaning) in SETTINGS.items()]
    refused = [
        "| refused | because |",
        "|---|---|",
        *(f"| `{option}` | {reason} |" for option, reason in REFUSED.items()),
    ]
    return "\n".join([*lines, "", *refused])


CONTRACTS = [
    "Listener",
    "MetricSink",
    "ClusterManager",
    "Cluster",
    "Executor",
    "Connection",
    "BlockStore",
    "CachePolicy",
    "ShuffleStore",
    "MapOutputWriter",
    "MapOutputReader",
    "Serializer",
    "Codec",
    "SchedulingPolicy",
]

TABLES = ["AppSpec", "ExecutorInfo", "Lost", "Metrics", "Metric", "BlockFacts", "TaskSetFacts", "PoolFacts"]

PROFILES = ["ResourceProfile", "ResourceProfileBuilder", "ExecutorResourceRequests", "TaskResourceRequests"]

PARTS: dict[str, Callable[[], str]] = {
    "spark keys": lambda: keys("spark."),
    "asparkle keys": lambda: keys("asparkle."),
    "RDD": lambda: methods("asparkle.aio:RDD"),
    "SparkContext": context,
    "SparkConf": lambda: constructed("asparkle:SparkConf"),
    "StorageLevel": levels,
    "Broadcast": lambda: described("asparkle:Broadcast"),
    "Accumulator": lambda: described("asparkle:Accumulator"),
    "AccumulatorParam": lambda: described("asparkle:AccumulatorParam"),
    "StatCounter": lambda: constructed("asparkle:StatCounter"),
    "SparkFiles": lambda: described("asparkle:SparkFiles"),
    "TaskContext": lambda: described("asparkle:TaskContext"),
    "RDDBarrier": lambda: described("asparkle:RDDBarrier"),
    "BarrierTaskContext": lambda: described("asparkle:BarrierTaskContext"),
    "Profiler": lambda: described("asparkle:Profiler"),
    "BasicProfiler": lambda: _text(load("asparkle:BasicProfiler")),
    "InheritableThread": lambda: _text(load("asparkle:InheritableThread")),
    "inheritable_thread_target": lambda: _text(load("asparkle:inheritable_thread_target")),
    "BarrierTaskInfo": lambda: _text(load("asparkle:BarrierTaskInfo")),
    "SparkSession": lambda: methods("asparkle.sql:SparkSession"),
    "DataFrame": lambda: methods("asparkle.sql:DataFrame"),
    "options": options,
    "EventStream": lambda: described("asparkle.aio:EventStream"),
    "JobHandle": lambda: described("asparkle.aio:JobHandle"),
    "JobProgress": lambda: fields("asparkle.core.jobrecords:JobProgress"),
    "JobMetrics": lambda: fields("asparkle.core.jobrecords:JobMetrics"),
    "StatusTracker": lambda: described("asparkle.core.status:StatusTracker"),
    "SparkJobInfo": lambda: fields("asparkle.core.status:SparkJobInfo"),
    "SparkStageInfo": lambda: fields("asparkle.core.status:SparkStageInfo"),
    "SparkExecutorInfo": lambda: fields("asparkle.core.status:SparkExecutorInfo"),
    "FailedElement": lambda: described("asparkle:FailedElement"),
    "WorkerResource": lambda: described("asparkle:WorkerResource"),
    "ResultIterable": lambda: described("asparkle.core.resultiterable:ResultIterable"),
    **{name: partial(described, f"asparkle.resource:{name}") for name in PROFILES},
    "ExecutorResourceRequest": lambda: fields("asparkle.resource:ExecutorResourceRequest"),
    "TaskResourceRequest": lambda: fields("asparkle.resource:TaskResourceRequest"),
    "errors": errors,
    "events": events,
    "parts of events": parts_of_events,
    **{name: partial(contract, f"asparkle.core.contracts:{name}") for name in CONTRACTS},
    **{name: partial(table, f"asparkle.core.contracts:{name}") for name in TABLES},
    "EventRecorder": lambda: contract("asparkle.plugins.listeners:EventRecorder"),
    "LogListener": lambda: _text(load("asparkle.plugins.listeners:LogListener")),
    "ProgressListener": lambda: _text(load("asparkle.plugins.progress:ProgressListener")),
    "JsonLinesListener": lambda: _text(load("asparkle.plugins.jsonlines:JsonLinesListener")),
    "read_events": lambda: _text(load("asparkle.plugins:read_events")),
    "replay": lambda: _text(load("asparkle.plugins:replay")),
    "metrics": metrics,
    "helpers": helpers,
    "SimulatedCluster": lambda: described("asparkle.testing:SimulatedCluster"),
    "SimulatedAttempt": lambda: table("asparkle.testing:SimulatedAttempt"),
    "SimulatedJob": lambda: table("asparkle.testing:SimulatedJob"),
}


def rewritten(text: str) -> str:
    """``text`` with every generated part as the code says now."""
    for name, make in PARTS.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        head, found, rest = text.partition(begin)
        if found:
            text = f"{head}{begin}\n\n{make()}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        old = page.read_text()
        if (new := rewritten(old)) != old:
            page.write_text(new)
            print(page.relative_to(DOCS))

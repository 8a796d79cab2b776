"""Rewrites the parts of the reference that are made from the code: python docs/generate.py.

They stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test fails when they lag behind.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path

from asparkle.core.conf import KEYS, PREFIXES
from asparkle.core.storagelevel import StorageLevel

DOCS = Path(__file__).parent


def keys(prefix: str) -> str:
    """A table of the configuration keys that begin with ``prefix``."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in KEYS.values():
        if key.name.startswith(prefix):
            default = f"`{key.default}`" if key.default else ""
            lines.append(f"| `{key.name}` | {key.type} | {default} | {key.doc} |")
    lines += [f"| `{name}*` | text | | {doc} |" for name, doc in PREFIXES.items() if name.startswith(prefix)]
    return "\n".join(lines)


def methods(path: str) -> str:
    """A section for each public method and property of a class, in the order of its source."""
    module, _, name = path.partition(":")
    cls = getattr(__import__(module, fromlist=[name]), name)
    sections = []
    for member, value in vars(cls).items():
        if member.startswith("_") or not inspect.getdoc(value):
            continue
        if isinstance(value, property):
            sections.append(f"### `{member}`\n\n{_text(value)}")
        elif inspect.isroutine(value) or isinstance(value, classmethod | staticmethod):
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            sections.append(f"### `{member}({_parameters(function)})`{_kind(function)}\n\n{_text(function)}")
    return "\n\n".join(sections)


def _kind(function: Callable[..., object]) -> str:
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return " *coroutine*" if is_async else ""


def _parameters(function: Callable[..., object]) -> str:
    texts = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        levels = {value: f"StorageLevel.{name}" for name, value in vars(StorageLevel).items() if name.isupper()}
        if isinstance(parameter.default, StorageLevel):
            texts.append(f"{parameter.name}={levels[parameter.default]}")
        elif callable(parameter.default) and parameter.default is not parameter.empty:
            texts.append(f"{parameter.name}={parameter.default.__name__}")
        else:
            texts.append(str(parameter.replace(annotation=parameter.empty)))
    return ", ".join(texts)


def _text(value: object) -> str:
    """A docstring as Markdown."""
    text = (inspect.getdoc(value) or "").replace("``", "`")
    return re.sub(r"^(>>> .*(?:\n.+)*)", r"```pycon\n\1\n```", text, flags=re.MULTILINE)


def events() -> str:
    """A section for each event type: its docstring, and a table of its fields."""
    from asparkle.core.events import event_types

    sections = []
    for name, event_type in sorted(event_types().items()):
        fields = [f"`{field.name}`: {field.type}".replace("|", "or") for field in dataclasses.fields(event_type)]
        doc = inspect.getdoc(event_type) or ""
        text = "" if doc.startswith(f"{name}(") else doc.replace("``", "`")
        sections.append(f"### `{name}`\n\n{text}\n\n{', '.join(fields)}".replace("\n\n\n\n", "\n\n"))
    return "\n\n".join(sections)


PARTS: dict[str, Callable[[], str]] = {
    "spark keys": lambda: keys("spark."),
    "asparkle keys": lambda: keys("asparkle."),
    "RDD": lambda: methods("asparkle.core.rdd:RDD"),
    "SparkContext": lambda: methods("asparkle.core.context:SparkContext"),
    "Broadcast": lambda: methods("asparkle.core.broadcast:Broadcast"),
    "events": events,
    "Accumulator": lambda: methods("asparkle.core.accumulators:Accumulator"),
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

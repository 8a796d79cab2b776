"""``asparkle conf``: every key, the value that holds, and where it is set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from asparkle.core.application import REDACTED
from asparkle.core.conf import KEYS, PREFIXES, REDACTION, ConfigKey, SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.core.namedtuple import NamedTuple
from asparkle.launcher.tables import indented, table, width
from asparkle.plugins.survey import Survey


class Row(NamedTuple):
    """``value``: as text, the default where the key is not set, redacted where it is secret; None: no value.
    ``where``: it is set; empty if it is not.  ``plugin``: whose the key is; empty if asparkle's own."""

    key: str
    value: str | None
    where: str
    type: str
    default: str | None
    meaning: str
    plugin: str
    problem: str  # why the value is bad; the value of a secret is not in it


Given = Sequence[tuple[str, dict[str, str]]]


def show(conf: SparkConf, given: Given, prefix: str, *, only_set: bool, as_json: bool) -> int:
    """Print what is configured; the exit status: 1 where a value is bad."""
    found = [row for row in rows(conf, given) if row.key.startswith(prefix) and (row.where or not only_set)]
    if as_json:
        print(json.dumps([row._asdict() for row in found], indent=2))
    elif found:
        columns, cells = width(), [_cells(row) for row in found]
        side_by_side = table(["KEY", "VALUE", "SET IN", "TYPE", "MEANING"], cells, columns)
        print(side_by_side or "\n\n".join(_paragraph(*row, columns) for row in cells))
    elif only_set:
        print(f"no key that begins with {prefix} is set" if prefix else "no key is set")
    else:
        raise ConfigurationError(f"no key begins with {prefix!r}{_like(prefix, [*KEYS, *PREFIXES])}")
    return int(any(row.problem for row in found))


def rows(conf: SparkConf, given: Given) -> list[Row]:
    """asparkle's keys, the plugins', and what else is set."""
    keys: dict[str, tuple[str, ConfigKey[Any]]] = {name: ("", key) for name, key in KEYS.items()}
    keys |= Survey(conf).keys()
    secret = _secret(conf)
    found = [_known(conf, key, plugin, _where(conf, given, name), secret) for name, (plugin, key) in keys.items()]
    for name, value in conf.getAll():
        if name not in keys:
            family = next((meaning for prefix, meaning in PREFIXES.items() if name.startswith(prefix)), None)
            meaning = f"Not a key that is known here, and without effect{_like(name, keys) or '.'}"
            where, shown = _where(conf, given, name), REDACTED if secret(name, value) else value
            found.append(Row(name, shown, where, "text", None, family or meaning, "", ""))
    return found


def _known(conf: SparkConf, key: ConfigKey[Any], plugin: str, where: str, secret: Callable[[str, str], bool]) -> Row:
    value, problem = conf.get(key.name), ""
    hidden = value is not None and value != key.default and secret(key.name, value)
    try:
        key.read(conf)
    except ConfigurationError as error:
        problem = f"expected {key.expected}" if hidden else str(error).removeprefix(f"{key.name} = {value!r}: ")
    shown = REDACTED if hidden else key.default if value is None else value
    return Row(key.name, shown, where, key.type, key.default, key.doc, plugin, problem)


def _where(conf: SparkConf, given: Given, name: str) -> str:
    if conf.get(name) is None:
        return ""
    places = [where for where, values in given if name in values]
    return places[-1] if places else "spark.executor.* and spark.cores.max"  # a master is made of these


def _secret(conf: SparkConf) -> Callable[[str, str], bool]:
    """Whether a setting is to be hidden: all are, where what says so is bad."""
    try:
        search = REDACTION.read(conf).search
    except ConfigurationError:
        return lambda name, value: name != REDACTION.name
    return lambda name, value: name != REDACTION.name and bool(search(name) or search(value))


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    meaning = row.meaning.replace("  ", " ")
    if row.problem:
        meaning = f"BAD VALUE: {row.problem}. {meaning}"
    if row.plugin:
        meaning += f" (plugin {row.plugin})"
    return row.key, row.value or "-", row.where or "default", row.type, meaning


def _paragraph(key: str, value: str, where: str, kind: str, meaning: str, columns: int | None) -> str:
    head, facts = f"{key} = {value}", f"({where}; {kind})"
    fits = columns is None or len(head) + len(facts) + 2 <= columns
    return "\n".join([f"{head}  {facts}" if fits else f"{head}\n    {facts}", *indented(meaning, columns)])


def _like(name: str, names: Any) -> str:
    close = get_close_matches(name, list(names), 1, 0.8)
    return f"; is {close[0]} meant?" if close else ""

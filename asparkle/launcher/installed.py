"""``asparkle plugins``: what is installed, what it provides, and what becomes of it."""

from __future__ import annotations

import json

from asparkle.core.conf import SparkConf
from asparkle.launcher.tables import indented, width
from asparkle.plugins.survey import Found, Survey

STATES = {
    "own": "always there",
    "active": "active: {why}",
    "used": "used: {why}",
    "installed": "not active: {why}",
    "blocked": "BLOCKED by {why}",
    "broken": "BROKEN",
    "missing": "MISSING",
}


def show(conf: SparkConf, *, as_json: bool) -> int:
    """Print all plugins; the exit status: 1 where one that is to be activated can't be."""
    survey = Survey(conf)
    plugins = survey.plugins()
    if as_json:
        print(json.dumps([plugin._asdict() for plugin in plugins], indent=2))
    else:
        print("\n\n".join(_paragraph(plugin, width()) for plugin in plugins))
    return int(bool(survey.refused))


def _paragraph(plugin: Found, columns: int | None) -> str:
    package = "" if plugin.package in ("asparkle", plugin.name) else f"{plugin.package} "
    head = f"{plugin.name}  {package}{plugin.version}".rstrip()
    state = STATES[plugin.state].format(why=plugin.why) if plugin.why or plugin.state == "own" else "not active"
    fits = columns is None or len(head) + len(state) + 4 <= columns
    lines = [f"{head}  [{state}]"] if fits else [head, *indented(f"[{state}]", columns)]
    if plugin.state in ("broken", "missing"):
        lines += indented(plugin.why, columns)
    for hook, names in plugin.provides.items():
        what = hook.removeprefix("asparkle_").replace("_", " ")
        lines += indented(f"{what}: {', '.join(names)}" if names else what, columns)
    return "\n".join(lines)

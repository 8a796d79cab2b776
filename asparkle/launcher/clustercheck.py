"""``asparkle cluster check``: what the nodes of a master URL are like, how they reach each other, and what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from statistics import median

import anyio

from asparkle.backends.ssh.check import CheckedNode, CheckedPair, Report, check
from asparkle.backends.ssh.dialing import DIRECT, RELAYED
from asparkle.backends.ssh.nodes import parse_nodes
from asparkle.core.conf import MASTER, SparkConf
from asparkle.core.errors import ConfigurationError
from asparkle.launcher.tables import table, width, wrapped
from asparkle.newapplication import new_application

_COLUMNS = 100
_NAME = 16  # columns of a node's name
_MATRIX = 16  # nodes; of more, a few lines say what a matrix would
_SHOWN = 8  # pairs that are named
_DIRECTLY = (
    "What goes through the driver takes up its network twice. For direct connections, let nodes reach each other by "
    "TCP, on the ports that their systems choose (ephemeral ones)."
)


def show(conf: SparkConf, *, all_pairs: bool, as_json: bool) -> int:
    """Print what was found; the exit status: 0 if all nodes can be used, 1 otherwise, 130 after Ctrl-C.

    Raises ConfigurationError for what is no master URL of nodes, and for what is wrong with it.
    """
    url = MASTER.read(conf)
    if not url.startswith("ssh:"):
        raise ConfigurationError(f"master {url!r}: expected ssh://host,host or ssh:nodes.toml")
    application = new_application(url, "asparkle cluster check", conf)
    application.begin()
    if sys.stderr.isatty():
        print(f"asking {_counted(len(parse_nodes(url)), 'node')} ...", file=sys.stderr)
    try:
        report = anyio.run(lambda: check(application.spec, all_pairs=all_pairs))
    except KeyboardInterrupt:
        return 130
    finally:
        application.end()
    if as_json:
        print(json.dumps({"usable": report.usable, **asdict(report)}, indent=2))
    else:
        print(text(report, min(width() or _COLUMNS, _COLUMNS)))
    return 0 if report.usable else 1


def text(report: Report, columns: int) -> str:
    """The report, in lines of so many columns where that is enough for the tables."""
    usable = sum(not node.problem for node in report.nodes)
    parts = [
        [f"{usable} of {_counted(len(report.nodes), 'node')} can be used."],
        [_nodes(report.nodes), *_hanging(_LEGEND, columns)],
        [line for paragraph in _surroundings(report.nodes) for line in _hanging(paragraph, columns)],
        [line for paragraph in _labels(report.nodes) for line in _hanging(paragraph, columns)],
        [line for paragraph in _remarks(report.nodes) for line in _hanging(paragraph, columns)],
        [line for paragraph in _network(report) for line in _hanging(paragraph, columns)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _hanging(paragraph: str, columns: int) -> list[str]:
    """A paragraph's lines, the first to the left of the others; one that begins with a space stays as it is."""
    if paragraph.startswith(" "):
        return [paragraph]
    first, *more = wrapped(paragraph, columns)
    return [first, *(f"  {line}" for line in wrapped(" ".join(more), columns - 2) if line)]


# ------------------------------------------------------------------------------------------------- nodes

_HEAD = ("NODE", "OK", "PYTHON", "SLOTS", "CPUS", "MEMORY", "DISK", "CLOCK", "RTT", "DRIVER MB/S")
_LEGEND = (
    "DISK: what is free. CLOCK: how far it is ahead of the driver's. RTT: from a question to its answer. "
    "DRIVER MB/S: at which it reads from the driver, and the driver from it."
)


def _nodes(nodes: Sequence[CheckedNode]) -> str:
    found = table(_HEAD, [_row(node) for node in nodes], None)
    assert found is not None  # it may be as wide as it is
    return found


def _row(node: CheckedNode) -> list[str]:
    clock = rtt = speed = None
    if node.clock is not None and node.clock_uncertainty is not None:
        scale, unit = (1, "s") if abs(node.clock) >= 1 else (1000, "ms")
        ahead = round(node.clock * scale, 1) + 0.0  # there is no -0.0
        clock = f"{ahead:+.1f} ±{node.clock_uncertainty * scale:.1f} {unit}"
    if node.round_trip is not None:
        rtt = f"{node.round_trip * 1000:.1f} ms"
    if node.from_driver is not None or node.to_driver is not None:
        speed = f"{_speed(node.from_driver)}, {_speed(node.to_driver)}"
    cells = (node.python, node.slots, node.cpus, _size(node.memory), _size(node.free_disk), clock, rtt, speed)
    return [_short(node.name), "no" if node.problem else "yes", *(str(cell or "-") for cell in cells)]


def _surroundings(nodes: Iterable[CheckedNode]) -> Iterator[str]:
    """Whose Python is where, and whose files."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        if node.executable:
            groups.setdefault((node.executable, node.directory), []).append(node.name)
    for (executable, directory), names in groups.items():
        whose = f"{_listed(names)}: " if len(groups) > 1 else ""
        yield f"{whose}Python is {executable}, files go to {directory}"


def _labels(nodes: Iterable[CheckedNode]) -> Iterator[str]:
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for node in nodes:
        groups.setdefault(tuple(sorted(node.labels.items())), []).append(node.name)
    for labels, names in groups.items():
        if labels:
            yield f"{_listed(names)}: labels {', '.join(f'{label} = {text}' for label, text in labels)}"


def _remarks(nodes: Iterable[CheckedNode]) -> Iterator[str]:
    for node in nodes:
        if node.problem:
            yield f"{node.name} can't be used: {' '.join(node.problem.split())}"
        for note in node.notes:
            yield f"{node.name}: {note}"


# --------------------------------------------------------------------------------------- from node to node


def _network(report: Report) -> Iterator[str]:
    if not report.pairs:
        return
    names = [node.name for node in report.nodes if any(pair.reader == node.name for pair in report.pairs)]
    yield from _matrix(names, report.pairs) if len(names) <= _MATRIX else _summary(report)
    relayed = [pair for pair in report.pairs if pair.route == RELAYED]
    cut_off = [pair for pair in report.pairs if not pair.route]
    for pairs, how in ((relayed, "through the driver"), (cut_off, "not at all")):
        for pair in pairs[:_SHOWN]:
            yield f"{pair.reader} reads from {pair.holder} {how}: {pair.reason}"
        if len(pairs) > _SHOWN:
            yield f"So do {_counted(len(pairs) - _SHOWN, 'other pair')}: --json tells of each."
    if relayed:
        yield _DIRECTLY


def _matrix(names: Sequence[str], pairs: Iterable[CheckedPair]) -> Iterator[str]:
    cells = {(pair.reader, pair.holder): pair for pair in pairs}
    starred = " (* through the driver)" if any(pair.route == RELAYED for pair in cells.values()) else ""
    yield f"MB/s at which the node of a row reads from the node of a column{starred}:"
    label = 3 + max(min(_NAME, len(name)) for name in names)
    yield f" {'':{label}}" + "".join(f"{number:4} " for number, _ in enumerate(names, 1)).rstrip()
    for number, name in enumerate(names, 1):
        row = "".join(f"{_cell(cells.get((name, other))):>5}" for other in names)
        yield f" {f'{number:2} {_short(name)}':{label}}{row}".rstrip()


def _cell(pair: CheckedPair | None) -> str:
    if pair is None:
        return "- "
    return _speed(pair.bandwidth) + ("*" if pair.route == RELAYED else " ")


def _summary(report: Report) -> Iterator[str]:
    sample = ", a sample of all (--pairs measures all)" if report.sampled else ""
    yield f"Of {len(report.pairs)} ways from node to node{sample}:"
    for route, how in ((DIRECT, "direct"), (RELAYED, "through the driver"), ("", "none")):
        pairs = [pair for pair in report.pairs if pair.route == route]
        speeds = [pair.bandwidth for pair in pairs if pair.bandwidth is not None]
        if speeds:
            least, middle, most = map(_speed, (min(speeds), median(speeds), max(speeds)))
            yield f"  {len(pairs):5} {how}, {least} to {most} MB/s, median {middle}"
        elif pairs:
            yield f"  {len(pairs):5} {how}"
    direct = [(pair.bandwidth, pair) for pair in report.pairs if pair.bandwidth is not None and pair.route == DIRECT]
    if direct:
        yield "The slowest that are direct:"
    for speed, pair in sorted(direct, key=lambda each: each[0])[:_SHOWN]:
        yield f"  {pair.reader} from {pair.holder}: {_speed(speed)} MB/s"


# --------------------------------------------------------------------------------------------------- units


_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"))


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _SHOWN else f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _size(count: int | None) -> str | None:
    if count is None:
        return None
    unit, name = next((found for found in _UNITS if count >= found[0]), _UNITS[-1])
    return f"{_two_digits(count / unit)} {name}"


def _speed(bytes_per_second: float | None) -> str:
    """In MB/s."""
    if bytes_per_second is None:
        return "-"
    return _two_digits(bytes_per_second / (1 << 20))


def _two_digits(number: float) -> str:
    """At least."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:.1f}"

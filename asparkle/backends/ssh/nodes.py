"""The inventory: which nodes a master URL names.

    ssh://[user@]host[:port][*slots],...     such as ssh://alpha,me@beta:2222*8,node[01-16]
    ssh:nodes.toml, ssh:/etc/nodes.toml      a file

``[01-16]`` and ``[1-4,8]`` in a host stand for numbers, with as many digits as are written; several in one host for all
combinations.  An IPv6 address is in brackets as well: ``[::1]:2222``.  A file has tables of nodes, and defaults::

    [defaults]                               # for all nodes; each key but host and name may be here
    python = "python3.11"                    # on the node's PATH, or a path; "python3" unless said
    environment = { OMP_NUM_THREADS = "1" }  # a node's own tables are added to those of the defaults

    [[nodes]]
    host = "me@node[01-16]"                  # as ssh has it: a name, an address, an alias of ~/.ssh/config
    slots = 8                                # as many as it has CPUs, unless said

    [[nodes]]
    host = "gpu.example.com"
    name = "gpu"                             # in messages; the host unless said, and a port that is given
    port = 2222
    directory = "/scratch"                   # for its files; its temporary directory unless said
    labels = { accelerator = "a100" }        # for those who read events
    env = "sync"                             # the driver's installed packages; as asparkle.ssh.env has it, unless said

Where there is nothing to say of nodes but what a URL says: ``nodes = ["alpha", "me@beta:2222*8"]``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any, Final, NamedTuple

from asparkle.errors import ConfigurationError

MOST: Final = 10_000
"""Nodes, and slots of one; what names more is a slip."""

LONGEST_NAME: Final = 255
"""Bytes of a node's name, as of a host's in DNS: more than `dialing` can say."""


class Node(NamedTuple):
    """A machine that ssh reaches."""

    name: str  # its own in the inventory: in messages, and as the host of its executors
    host: str  # as ssh has it: [user@]host, where host may be an alias
    port: int | None = None  # None: ssh's own configuration says
    slots: int | None = None  # None: as many as it has CPUs
    python: str = "python3"  # on its PATH, or a path
    environment: Mapping[str, str] = {}  # of everything that runs there
    directory: str = ""  # for files; "": its own temporary directory
    labels: Mapping[str, str] = {}  # of its executors, in events
    env: str | None = None  # "sync": the driver's installed packages; "": its own; None: as asparkle.ssh.env says


def parse_nodes(url: str) -> tuple[Node, ...]:
    """The nodes of a master URL, at least one, in its order.

    Raises ConfigurationError, which names value and place and says what is expected there.
    """
    _, _, rest = url.strip().partition(":")
    nodes = _in_url(url, rest[2:]) if rest.startswith("//") else _in_file(rest)
    place = f"master {_masked(url)!r}"
    if not nodes:
        raise ConfigurationError(f"{place}: no nodes; expected ssh://host,host or ssh:nodes.toml")
    if len(nodes) > MOST:
        raise ConfigurationError(f"{place}: {len(nodes)} nodes; expected {MOST} at most")
    name, times = Counter(node.name for node in nodes).most_common(1)[0]
    if times > 1:
        raise ConfigurationError(
            f"{place}: {times} nodes are called {name!r}; for more slots write {name}*{times}, or slots = {times} in a "
            "file, where nodes that differ may each have a name"
        )
    if long := next((name for name in (node.name for node in nodes) if len(name.encode()) > LONGEST_NAME), ""):
        raise ConfigurationError(
            f"{place}: the name {long[:40]!r}... is longer than {LONGEST_NAME} bytes: give it another"
        )
    return tuple(nodes)


def least_slots(nodes: Iterable[Node]) -> int:
    """Slots that nodes have together; one each where it is not said."""
    return sum(node.slots or 1 for node in nodes)


def _in_url(url: str, text: str) -> list[Node]:
    place = f"master {_masked(url)!r}"
    if text.endswith(".toml"):
        raise ConfigurationError(f"{place}: for a file write ssh:{text}")
    items = re.split(r",(?![^\[]*\])", text) if text.strip() else []  # a comma in brackets belongs to a range
    return list(itertools.chain.from_iterable(_nodes(f"{place}: node {_masked(i)!r}", i, {}) for i in items))


def _in_file(path: str) -> list[Node]:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        problem = f"{error.strerror}; expected a file of nodes, or ssh://host,host for hosts"
        raise ConfigurationError(f"master 'ssh:{path}': can't read {path!r}: {problem}") from None
    except ValueError as error:  # a TOMLDecodeError is one, and so is what is no UTF-8
        raise ConfigurationError(f"{path}: {error}; expected TOML: [defaults] and [[nodes]]") from None
    _known(path, document, ("defaults", "nodes"))
    defaults, tables = document.get("defaults", {}), document.get("nodes", [])
    if not isinstance(defaults, dict):
        raise ConfigurationError(f"{path}: defaults = {defaults!r}: expected a table [defaults]")
    if not isinstance(tables, list):
        raise ConfigurationError(f"{path}: nodes = {tables!r}: expected tables [[nodes]], with two brackets")
    place = f"{path}: [defaults]"
    _known(place, defaults, [key for key in _EXPECTED if key not in ("host", "name")])
    _check(place, defaults)
    return [
        node
        for number, given in enumerate(tables, 1)
        for node in _nodes(f"{path}: node {number}{_shown_host(given)}", given, defaults)
    ]


def _shown_host(given: object) -> str:
    host = given.get("host") if isinstance(given, dict) else given
    return f" ({_masked(host)})" if isinstance(host, str) else ""


def _masked(text: str) -> str:
    """Without what may be a password."""
    return re.sub(r":(?!//)[^\[\],]*@", ":***@", text)


# ---------------------------------------------------------------------------------------------- one item of either


def _nodes(place: str, given: object, defaults: Mapping[str, Any]) -> Iterable[Node]:
    """Those that one item stands for: ``[user@]host[:port][*slots]``, or a table."""
    table = _table_of(place, given.strip()) if isinstance(given, str) else given
    if not isinstance(table, dict):
        raise ConfigurationError(f"{place}: {given!r}: expected a table [[nodes]], or a text such as 'me@host:22*4'")
    _known(place, table, _EXPECTED)
    if "host" not in table:
        raise ConfigurationError(f"{place}: no host; expected {_EXPECTED['host']}")
    _check(place, table)
    fields = {**defaults, **table}
    for key in ("environment", "labels"):
        fields[key] = {**defaults.get(key, {}), **table.get(key, {})}
    hosts = _hosts(place, fields.pop("host"))
    names = _expanded(place, fields.pop("name")) if "name" in table else [_name(h, fields.get("port")) for h in hosts]
    if len(names) != len(hosts):
        problem = f"name = {table['name']!r} is for {len(names)}, host = {table['host']!r} for {len(hosts)}"
        raise ConfigurationError(f"{place}: {problem}; expected a range of as many, or no name")
    return [Node(name, host, **fields) for name, host in zip(names, hosts, strict=True)]


def _table_of(place: str, text: str) -> dict[str, Any]:
    text, star, slots = text.partition("*")
    user, at, address = text.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\](?:(:)(.*))?", address)
    host, colon, port = bracketed.groups() if bracketed else _cut(address)
    table: dict[str, Any] = {"host": user + at + host}
    if bracketed and not _is_ipv6(host):
        problem = f"[{host}] is no IPv6 address, and no range of numbers such as [01-16]"
        raise ConfigurationError(f"{place}: {problem}")
    for key, mark, number in (("port", colon, port), ("slots", star, slots)):
        if mark:
            table[key] = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else number  # or it is refused as text
    return table


def _cut(address: str) -> tuple[str, str, str]:
    """``host:port``; what has more than one colon is left to be refused as a host."""
    host, colon, port = address.partition(":")
    return (host, colon, port) if ":" not in port and "]" not in port else (address, "", "")


def _name(host: str, port: int | None) -> str:
    address = host.rpartition("@")[2]
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# --------------------------------------------------------------------------------------------------------- values

_EXPECTED = {
    "host": "a host's name or address, such as 'node1' or 'me@node[01-16]'",
    "name": "a name without spaces",
    "port": "a whole number from 1 to 65535",
    "slots": f"a whole number from 1 to {MOST}",
    "python": "the name or the path of a Python, such as 'python3.11', without quotes, backslashes and !",
    "environment": 'a table of variables as texts, such as { OMP_NUM_THREADS = "1" }',
    "directory": "a path that begins with / or ~/",
    "labels": 'a table of texts, such as { zone = "a" }',
    "env": '"sync", or "" for the node\'s own packages',
}
"""The keys of a node, and what each may be."""

_MEETS: dict[str, Callable[[Any], object]] = {
    "host": lambda value: isinstance(value, str) and value,
    "name": lambda value: isinstance(value, str) and value.isprintable() and re.fullmatch(r"\S+", value),
    "port": lambda value: type(value) is int and 1 <= value <= 65535,
    "slots": lambda value: type(value) is int and 1 <= value <= MOST,
    "python": lambda value: isinstance(value, str) and value.isprintable() and re.fullmatch(r"[^-'\\!][^'\\!]*", value),
    "environment": lambda value: _are_texts(value) and all(re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", k) for k in value),
    "directory": lambda value: isinstance(value, str) and "\0" not in value and value.startswith(("/", "~/")),
    "labels": lambda value: _are_texts(value),
    "env": lambda value: value in ("", "sync"),
}


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) and "\0" not in text for text in value.values())


def _known(place: str, table: Mapping[str, object], keys: Iterable[str]) -> None:
    if unknown := sorted(table.keys() - {*keys}):
        raise ConfigurationError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(keys)}")


def _check(place: str, table: Mapping[str, object]) -> None:
    for key, value in table.items():
        if not _MEETS[key](value):
            raise ConfigurationError(f"{place}: {key} = {value!r}: expected {_EXPECTED[key]}")


def _hosts(place: str, text: str) -> list[str]:
    user, at, host = text.rpartition("@")
    if ":" in user:
        problem = "a password in a host; ssh takes none: use a key, or an agent"
        raise ConfigurationError(f"{place}: {problem}")
    hosts = [host] if _is_ipv6(host) else _expanded(place, host)
    for each in hosts:
        # nor may either begin with -, which ssh would take for an option
        if (at and not re.fullmatch(r"[\w.+@\\][\w.+@\\-]*", user)) or not (
            _is_ipv6(each) or re.fullmatch(r"[\w.][\w.-]*", each)
        ):
            problem = f"host {user + at + each!r}: expected letters, digits, '.', '-' and '_', and no '-' in front"
            ports = "port = 22 in a file, or host:22 in a URL, [::1]:22 for IPv6"
            raise ConfigurationError(f"{place}: {problem}; for a port, {ports}")
    return [user + at + each for each in hosts]


def _is_ipv6(host: str) -> bool:
    try:
        return bool(IPv6Address(host))
    except ValueError:
        return False


def _expanded(place: str, text: str) -> list[str]:
    """All that a text with ranges in it stands for."""
    literals, ranges = _RANGE.split(text)[::2], _RANGE.findall(text)
    if any(bracket in literal for literal in literals for bracket in "[]"):
        raise ConfigurationError(f"{place}: {text!r}: expected ranges in pairs of brackets, such as node[01-16]")
    choices = [_numbers(f"{place}: range [{each}]", each) for each in ranges]
    if (count := math.prod(map(len, choices))) > MOST:
        raise ConfigurationError(f"{place}: {text!r}: that is {count} nodes; expected {MOST} at most")
    return [
        literals[0] + "".join(number + literal for number, literal in zip(chosen, literals[1:], strict=True))
        for chosen in itertools.product(*choices)
    ]


_RANGE = re.compile(r"\[([^\[\]]*)\]")


def _numbers(place: str, text: str) -> list[str]:
    numbers: list[str] = []
    for part in text.split(","):
        found = re.fullmatch(r" *([0-9]{1,9})(?:-([0-9]{1,9}))? *", part)
        if not found:
            raise ConfigurationError(f"{place}: {part!r}: expected numbers, such as [1-4,8] or [01-16]")
        first, last = found[1], found[2] or found[1]
        if len(first) != len(last) and (first[0] == "0" or last[0] == "0"):
            raise ConfigurationError(f"{place}: {part!r}: expected as many digits at both ends, such as [001-100]")
        if int(last) < int(first):
            raise ConfigurationError(f"{place}: {part!r} ends before it begins: write {last}-{first}")
        if int(last) - int(first) >= MOST:
            raise ConfigurationError(f"{place}: {part!r}: expected {MOST} numbers at most")
        width = len(first) if first[0] == "0" else 0
        numbers += [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
    return numbers

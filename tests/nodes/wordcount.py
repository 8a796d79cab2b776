"""A word count on nodes: is it right, and which bytes went from where to where, by which route?

``python -m nodes.wordcount [MEGABYTES]`` (in ``tests``) does it on three nodes of two slots, with 1,000 MB unless said:
where all of them can connect to each other, where two can't, and where everything goes through the driver.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from asparkle import SparkConf, SparkContext
from asparkle.events import ResultsFetched, TaskEnded
from asparkle.plugins import Listener

from .faults import conf, left_behind
from .hosts import Host, hosts

DRIVER = "driver"
_BLOCK = 8_000_000  # bytes of text, about, of which the input is made

Pair = tuple[str, str, str]
"""From, to, by which route."""


class Input(NamedTuple):
    """A text, and its words' counts."""

    path: Path
    counts: dict[str, int]


def write_input(path: Path, megabytes: int) -> Input:
    """A text of 50,000 different words, few of which are frequent."""
    random.seed(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(random.choices(letters, k=random.randint(2, 12))) for _ in range(50_000)]
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(words))))
    lines = []
    while sum(map(len, lines)) < min(_BLOCK, megabytes * 1_000_000):
        lines += [" ".join(random.choices(words, cum_weights=weights, k=12)) + "\n" for _ in range(1000)]
    block = "".join(lines)
    times = max(1, megabytes * 1_000_000 // len(block))
    with path.open("w") as file:
        for _ in range(times):
            file.write(block)
    return Input(path, {word: count * times for word, count in Counter(block.split()).items()})


class Traffic(Listener):
    """Bytes of files that went from host to host."""

    name = "traffic"

    def __init__(self) -> None:
        self.bytes: Counter[Pair] = Counter()

    def on_event(self, event: Any) -> None:
        if isinstance(event, TaskEnded) and event.metrics is not None:
            for host, route, size in event.metrics.fetched:
                self.bytes[host or DRIVER, event.host, route] += size
        elif isinstance(event, ResultsFetched):
            self.bytes[event.host, DRIVER, event.route] += event.size


class Counted(NamedTuple):
    seconds: float
    counts: dict[str, int]
    traffic: Counter[Pair]


def count_words(conf: SparkConf, text: Input, partitions: int = 24) -> Counted:
    """The word count, once all slots are there."""
    traffic = Traffic()
    with SparkContext(conf=conf, plugins=[traffic]) as context:
        context.parallelize(range(60), 60).map(lambda _: time.sleep(0.02)).collect()
        began = time.monotonic()
        counts = (
            context.textFile(str(text.path), partitions)
            .flatMap(str.split)
            .map(lambda word: (word, 1))
            .reduceByKey(lambda a, b: a + b, 12)
            .collectAsMap()
        )
        seconds = time.monotonic() - began
    return Counted(seconds, counts, traffic.bytes)


def keep_apart(one: Host, other: Host) -> None:
    """Let two hosts not connect to each other."""
    for host, stranger in ((one, other), (other, one)):
        host.execute("iptables", "-A", "INPUT", "-s", stranger.address, "-j", "DROP")


def _show(title: str, text: Input, counted: Counted) -> None:
    right = "right" if counted.counts == text.counts else "WRONG"
    size = text.path.stat().st_size / 1e6
    print(f"\n{title}: {size:,.0f} MB, {sum(counted.counts.values()):,} words, {right}, {counted.seconds:.1f} s")
    print(f"{'from':8} {'to':8} {'route':8} {'KB':>10}")
    for (source, target, route), amount in sorted(counted.traffic.items()):
        print(f"{source:8} {target:8} {route:8} {amount / 1e3:10,.1f}")


def main(megabytes: int = 1000) -> None:
    with tempfile.TemporaryDirectory() as directory:
        text = write_input(Path(directory) / "text.txt", megabytes)
        with hosts(3, Path(directory)) as made:
            _show("direct", text, count_words(conf(made), text))
            keep_apart(made[0], made[1])
            _show("node1 and node2 kept apart", text, count_words(conf(made), text))
            _show("through the driver", text, count_words(conf(made, asparkle__ssh__direct="false"), text))
            print(*left_behind(made))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

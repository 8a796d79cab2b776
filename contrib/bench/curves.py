"""Cost curves: how time grows with what is to be done.

    python -m contrib.bench.curves [NAME ...] [--output DIRECTORY]

Each curve varies one thing and leaves the rest alone; a point is the least of a few runs, in a context of its own.
Writes an SVG for each curve, and ``curves.json`` with the figures, into the directory (docs/static/curves).  Straight
lines of slope 1 in these plots, whose axes are logarithmic, are costs in proportion.
"""

from __future__ import annotations

import argparse
import json
import operator
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asparkle import SparkConf, SparkContext, StorageLevel
from contrib.bench.workloads import PRIMES, candidate, is_prime

RUNS = 3
OUTPUT = Path(__file__).parents[2] / "docs" / "static" / "curves"
SERIES_COLOURS = ("#1b6ca8", "#d1495b", "#3c896d")

Points = list[tuple[float, float]]


@dataclass
class Curve:
    """``measure`` gives, by series, pairs of what is varied and seconds."""

    title: str
    x: str
    measure: Callable[[], Iterator[tuple[str, float, float]]]
    y: str = "seconds"
    series: dict[str, Points] = field(default_factory=dict)


def context(workers: int = 2, **settings: str) -> SparkContext:
    conf = SparkConf().setMaster(f"local[{workers}]").setAppName("curves")
    for name, value in settings.items():
        conf.set(name.replace("__", "."), value)
    return SparkContext(conf=conf)


def least(function: Callable[..., Any], *arguments: Any) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - began)
    return min(times)


def add_up(pairs: Any, reducers: int) -> int:
    return pairs.reduceByKey(operator.add, reducers).count()


def sort(pairs: Any) -> int:
    return pairs.sortByKey(numPartitions=4).count()


def shuffle_often(sc: SparkContext, times: int) -> int:
    rdd = sc.parallelize(range(1_000), 4).map(lambda x: (x, 1))
    for _ in range(times):
        rdd = rdd.reduceByKey(operator.add, 4).map(lambda pair: (pair[0] + 1, pair[1]))
    return rdd.count()


def records() -> Iterator[tuple[str, float, float]]:
    with context() as sc:
        for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000):
            numbers = sc.parallelize(range(n), 4)
            keyed = numbers.map(lambda x: (x % 1000, x))
            yield "map and count", n, least(keyed.count)
            yield "reduceByKey", n, least(add_up, keyed, 4)
            shuffled = numbers.map(lambda x: (x * 7919 % 1_000_003, x))
            yield "sortByKey", n, least(sort, shuffled)


def partitions() -> Iterator[tuple[str, float, float]]:
    with context() as sc:
        for n in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000):
            numbers = sc.parallelize(range(100_000), n).map(lambda x: (x % 100, x))
            yield "count", n, least(numbers.count)
            yield "reduceByKey into 8", n, least(add_up, numbers, 8)


def stages() -> Iterator[tuple[str, float, float]]:
    with context() as sc:
        for n in (1, 3, 10, 30, 100, 300):
            yield "one shuffle after another", n, least(shuffle_often, sc, n - 1)


def workers() -> Iterator[tuple[str, float, float]]:
    for n in (1, 2):
        with context(n) as sc:
            primes = sc.parallelize(PRIMES, 8).map(candidate).filter(is_prime)
            yield "primes", n, least(primes.count)
            pairs = sc.parallelize(range(2_000_000), 8).map(lambda x: (x % 1000, x))
            yield "reduceByKey", n, least(add_up, pairs, 8)


def cached() -> Iterator[tuple[str, float, float]]:
    """The second pass over a cached RDD, whose computation takes longer than reading it; seconds for 100 MB."""
    megabytes = 128
    for level in ("MEMORY_ONLY", "MEMORY_AND_DISK", "DISK_ONLY"):
        for ratio in (0.25, 0.5, 1, 2, 4):
            # fractions of memory: all of it is for cached partitions
            with context(spark__executor__memory=f"{megabytes}m", spark__memory__fraction="1.0") as sc:
                size = int(2 * megabytes * ratio)  # two executors
                rdd = sc.parallelize(range(size), min(size, 64)).map(
                    lambda i: bytes(1 << 19) + str(i).encode() * 70_000
                )
                rdd.persist(getattr(StorageLevel, level))
                lengths = rdd.map(len)
                lengths.sum()
                yield level, ratio, least(lengths.sum) / size * 100


CURVES = {
    "records": Curve("Time against records", "records", records),
    "partitions": Curve("Time against partitions, of 100,000 records", "partitions", partitions),
    "stages": Curve("Time against stages, of 1,000 records in 4 partitions", "stages", stages),
    "workers": Curve("Time against workers", "workers", workers),
    "cached": Curve("Reading what is cached", "cached bytes / memory for them", cached, "seconds for 100 MB"),
}


def draw(curve: Curve, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for (name, points), colour in zip(curve.series.items(), SERIES_COLOURS, strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, color=colour)
    axes.set(xscale="log", yscale="log", xlabel=curve.x, ylabel=curve.y, title=curve.title)
    axes.grid(which="major", color="#dddddd")
    axes.legend()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="*", default=list(CURVES), metavar="NAME", help=", ".join(CURVES))
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIRECTORY")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "curves.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    for name in options.curves:
        curve = CURVES[name]
        for series, x, seconds in curve.measure():
            curve.series.setdefault(series, []).append((x, seconds))
            print(f"{name:12} {series:28} {x:12,g} {seconds:9.4f}", flush=True)
        draw(curve, options.output / f"{name}.svg")
        figures[name] = curve.series
    kept.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Programs made by hypothesis, run on asparkle and on PySpark in one process: what they give must be equal.

    python contrib/dev/pyspark_differential.py [--programs N] [--seed S] [--master M]

Needs PySpark, Java and hypothesis. A program is one expression, such as ``sc.parallelize([3, 1], 2).map(lambda x: x +
1).distinct().count()``. Results are compared as far as PySpark promises them: with their order where operations keep or
make one, else as bags; and by partition where elements have their place, which they lose by a range partitioner (it
samples), by a random one, and by a hash of strings (asparkle has another one). Where PySpark raises, so must
asparkle: the same built-in error in the driver, and a failed job where a job fails. The first program that differs is
made as small as can be and printed.
"""

from __future__ import annotations

import argparse
import math
import operator
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

try:
    import pyspark
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st
    from py4j.protocol import Py4JJavaError
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here: pip install pyspark hypothesis")

import asparkle
from asparkle.errors import JobFailed

LINES = ["to be", "or not", "", "to be", "that is", "the question: ä"]


@dataclass(frozen=True)
class Program:
    """An expression for an RDD, of what its elements are, and what is promised of their order and place."""

    text: str
    kind: str  # int, str; pair: (int, int); named: (str, int)
    ordered: bool = True
    placed: bool = True
    steps: int = 0


# ------------------------------------------------------------------------------------------- operations
#
# kind -> (text, kind of the result, what it does to order and place). Letters in braces are drawn: {a} {b} small ints,
# {m} a modulus, {n} a number of partitions, {f} a flag, {s} a seed, {r} a fraction, {x} another RDD of the same kind.

KEEPS = "keeps"  # elements, in the order and the places of what they come from
ORDERED = "ordered"  # has an order whatever was before; places are not promised
SORTED_HERE = "sorted here"  # has an order in each partition, and a place
BAG = "bag"  # no order, but a place by hash
ANYWHERE = "anywhere"  # no order, no place
NEEDS_PLACE = "needs place"  # is the same only if places are, whatever the order; keeps both
NEEDS_ORDER = "needs order"  # is the same only if the order is; keeps both
NEEDS_BOTH = "needs both"

OPERATIONS: dict[str, list[tuple[str, str, str]]] = {
    "int": [
        (".map(lambda x: x * {a} + {b})", "int", KEEPS),
        (".filter(lambda x: x % {m} != 1)", "int", KEEPS),
        (".flatMap(lambda x: range(x % {m}))", "int", KEEPS),
        (".map(str)", "str", KEEPS),
        (".map(lambda x: (x % {m}, x))", "pair", KEEPS),
        (".keyBy(lambda x: x // {m})", "pair", KEEPS),
        (".map(lambda x: (str(x % {m}), x))", "named", KEEPS),
        (".cache()", "int", KEEPS),
        (".mapPartitions(lambda xs: [sum(xs)])", "int", NEEDS_PLACE),
        (".mapPartitions(lambda xs: sorted(xs))", "int", SORTED_HERE),
        (".mapPartitionsWithIndex(lambda i, xs: (x + i for x in xs))", "int", NEEDS_PLACE),
        (".glom().map(len)", "int", NEEDS_PLACE),
        (".zipWithIndex()", "pair", NEEDS_ORDER),
        (".zipWithUniqueId()", "pair", NEEDS_BOTH),
        (".sample(False, {r}, {s})", "int", NEEDS_BOTH),
        (".sample(True, {r}, {s})", "int", NEEDS_BOTH),
        (".randomSplit([1.0, 2.0, {m}], {s})[1]", "int", NEEDS_BOTH),
        (".distinct()", "int", BAG),
        (".distinct({n})", "int", BAG),
        (".groupBy(lambda x: x % {m}).mapValues(sum)", "pair", BAG),
        (".groupBy(lambda x: x % {m}, {n}).mapValues(len)", "pair", BAG),
        (".sortBy(lambda x: x, {f}, {n})", "int", ORDERED),
        (".sortBy(lambda x: -x)", "int", ORDERED),
        (".sortBy(lambda x: x % {m}).map(lambda x: x % {m})", "int", ORDERED),
        (".coalesce({n})", "int", KEEPS),
        (".coalesce({n}, True)", "int", ANYWHERE),
        (".repartition({n})", "int", ANYWHERE),
        (".union({x})", "int", "union"),
        (".intersection({x})", "int", BAG),
        (".subtract({x})", "int", BAG),
        (".subtract({x}, {n})", "int", BAG),
        (".cartesian({x})", "pair", BAG),
    ],
    "str": [
        (".map(len)", "int", KEEPS),
        (".map(str.upper)", "str", KEEPS),
        (".filter(lambda s: 't' in s)", "str", KEEPS),
        (".flatMap(str.split)", "str", KEEPS),
        (".map(lambda s: (s, len(s)))", "named", KEEPS),
        (".map(lambda s: (s[:1], 1))", "named", KEEPS),
        (".pipe('cat')", "str", KEEPS),
        (".zipWithIndex()", "named", NEEDS_ORDER),
        (".distinct()", "str", ANYWHERE),
        (".sortBy(lambda s: s, {f}, {n})", "str", ORDERED),
        (".union({x})", "str", "union"),
        (".subtract({x})", "str", ANYWHERE),
        (".groupBy(len).mapValues(len)", "pair", BAG),
    ],
    "pair": [
        (".map(lambda kv: kv[0] * 2 + kv[1])", "int", KEEPS),
        (".keys()", "int", KEEPS),
        (".values()", "int", KEEPS),
        (".mapValues(lambda v: v * {a} + {b})", "pair", KEEPS),
        (".flatMapValues(lambda v: range(v % {m}))", "pair", KEEPS),
        (".map(lambda kv: (kv[1], kv[0]))", "pair", KEEPS),
        (".map(lambda kv: (str(kv[0]), kv[1]))", "named", KEEPS),
        (".filter(lambda kv: kv[0] % {m} == 0)", "pair", KEEPS),
        (".sampleByKey(False, {{k: {r} for k in range(-60, 60)}}, {s})", "pair", "sample by key"),
        (".reduceByKey(add)", "pair", BAG),
        (".reduceByKey(max, {n})", "pair", BAG),
        (".foldByKey(0, add, {n})", "pair", BAG),
        (".aggregateByKey((0, 0), lambda a, v: (a[0] + v, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1]), {n})"
         ".mapValues(sum)", "pair", BAG),
        (".combineByKey(lambda v: [v], lambda c, v: c + [v], lambda a, b: a + b).mapValues(sum)", "pair", BAG),
        (".groupByKey().mapValues(sum)", "pair", BAG),
        (".groupByKey({n}).mapValues(lambda v: sorted(v)[0])", "pair", BAG),
        (".partitionBy({n})", "pair", BAG),
        (".partitionBy({n}, lambda k: k // 3)", "pair", BAG),
        (".sortByKey({f}, {n}).keys()", "int", ORDERED),
        (".sortByKey().keys()", "int", ORDERED),
        (".repartitionAndSortWithinPartitions({n}).keys()", "int", SORTED_HERE),
        (".repartitionAndSortWithinPartitions({n}, lambda k: k, {f}, lambda k: -k).keys()", "int", SORTED_HERE),
        (".distinct()", "pair", BAG),
        (".union({x})", "pair", "union"),
        (".join({x}).mapValues(sum)", "pair", BAG),
        (".join({x}, {n}).mapValues(sum)", "pair", BAG),
        (".leftOuterJoin({x}).mapValues(lambda v: v[0] * 3 + (v[1] or 0))", "pair", BAG),
        (".rightOuterJoin({x}, {n}).mapValues(lambda v: (v[0] or 0) * 3 + v[1])", "pair", BAG),
        (".fullOuterJoin({x}).mapValues(lambda v: (v[0] or 0) * 3 + (v[1] or 0))", "pair", BAG),
        (".cogroup({x}).mapValues(lambda vs: sum(sum(v) * w for v, w in zip(vs, (1, 7))))", "pair", BAG),
        (".groupWith({x}, {x}).mapValues(lambda vs: sum(sum(v) * w for v, w in zip(vs, (1, 7, 49))))", "pair", BAG),
        (".subtractByKey({x})", "pair", BAG),
    ],
    "named": [
        (".values()", "int", KEEPS),
        (".keys()", "str", KEEPS),
        (".mapValues(lambda v: v + {a})", "named", KEEPS),
        (".reduceByKey(add)", "named", ANYWHERE),
        (".groupByKey({n}).mapValues(lambda v: max(v))", "named", ANYWHERE),
        (".sortByKey({f}).keys()", "str", ORDERED),
        (".join({x}).mapValues(sum)", "named", ANYWHERE),
        (".leftOuterJoin({x}).mapValues(lambda v: v[0] + (v[1] or 0))", "named", ANYWHERE),
        (".distinct()", "named", ANYWHERE),
        (".union({x})", "named", "union"),
    ],
}  # fmt: skip

# What ends a program: its text, for which kinds, and what it needs to be the same ("" nothing).
ACTIONS: list[tuple[str, str, str]] = [
    (".collect()", "int str pair named", ""),
    (".glom().collect()", "int pair str named", "place"),
    (".getNumPartitions()", "int str pair named", ""),
    (".count()", "int str pair named", ""),
    (".isEmpty()", "int str pair named", ""),
    (".first()", "int str pair named", "order"),
    (".take({n})", "int str pair named", "order"),
    (".toLocalIterator()", "int str pair named", ""),
    (".takeOrdered({n})", "int str pair named", ""),
    (".top({n}, key=lambda x: (str(x), x))", "int str pair named", ""),
    (".countByValue()", "int str pair named", ""),
    (".takeSample(False, {n}, {s})", "int str pair named", "both"),
    (".takeSample(True, {n}, {s})", "int str pair named", "both"),
    (".reduce(max)", "int str pair named", ""),
    (".treeReduce(max, 3)", "int str pair named", ""),
    (".max()", "int str pair named", ""),
    (".min(key=lambda x: (str(x), x))", "int str pair named", ""),
    (".sum()", "int", ""),
    (".mean()", "int", ""),
    (".stdev()", "int", ""),
    (".sampleVariance()", "int", ""),
    (".histogram({n})", "int", ""),
    (".histogram([-10, 0, 5, 40])", "int", ""),
    (".reduce(add)", "int", ""),
    (".fold({a}, add)", "int", "place"),
    (".aggregate((0, 0), lambda a, x: (a[0] + x, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1]))", "int", ""),
    (".treeAggregate(0, add, add, 3)", "int", ""),
    (".countByKey()", "pair named", ""),
    (".reduceByKey(min).collectAsMap()", "pair named", ""),
    (".reduceByKeyLocally(add)", "pair named", ""),
    (".collectAsMap()", "pair named", "order"),
    (".lookup({b})", "pair", "bag"),
]

_small = st.integers(-5, 5)
_DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "a": _small,
    "b": _small,
    "m": st.integers(1, 7),
    "n": st.integers(1, 6),
    "f": st.booleans(),
    "s": st.integers(0, 99),
    "r": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
}


def _fill(draw: Callable[[Any], Any], text: str) -> str:
    return text.format(**{letter: draw(how) for letter, how in _DRAWN.items() if f"{{{letter}}}" in text}, x="{x}")


@st.composite
def sources(draw: Any, kind: str) -> Program:
    n = draw(st.sampled_from(["", ", 1", ", 2", ", 3", ", 5"]))
    if kind == "str" and draw(st.booleans()):
        return Program(f"sc.textFile(path{draw(st.sampled_from(['', ', 1', ', 4']))})", kind, True, False)
    if kind == "int" and draw(st.booleans()):
        start, step = draw(_small), draw(st.integers(1, 3))
        return Program(draw(st.sampled_from([
            f"sc.range({start}, {start + draw(st.integers(0, 40))}, {step}{n.replace(', ', ', numSlices=')})",
            f"sc.parallelize(range({start}, {start + draw(st.integers(0, 40))}, {step}){n})",
        ])), kind)  # fmt: skip
    number = st.integers(-50, 50)
    word = st.sampled_from(["a", "b", "to", "be", "tea", "it", "is", "in"])
    elements = {"int": number, "str": word, "pair": st.tuples(_small, number), "named": st.tuples(word, number)}
    return Program(f"sc.parallelize({draw(st.lists(elements[kind], max_size=25))!r}{n})", kind)


@st.composite
def rdds(draw: Any, kind: str | None = None, most: int = 6) -> Program:
    """A source and up to ``most`` operations; of ``kind`` at the end, where that is given."""
    wanted = kind
    program = draw(sources(wanted or draw(st.sampled_from(list(OPERATIONS)))))
    for _ in range(draw(st.integers(0, most))):
        program = draw(longer(program, wanted))
    return program


@st.composite
def longer(draw: Any, program: Program, wanted: str | None) -> Program:
    text, kind, effect = draw(st.sampled_from(OPERATIONS[program.kind]).filter(lambda o: wanted in (None, o[1])))
    if "{x}" in text and program.text.count("sc.") > 3:
        return program
    ordered, placed = program.ordered, program.placed
    if (
        (effect in (NEEDS_PLACE, SORTED_HERE) and not placed and "repartitionAnd" not in text)
        or (effect == NEEDS_ORDER and not ordered)
        or (effect in (NEEDS_BOTH, "sample by key") and not (ordered and placed))
    ):
        return program
    text = _fill(draw, text)
    steps = program.steps + 1
    while "{x}" in text:
        other = draw(rdds(program.kind, 2))
        text = text.replace("{x}", other.text, 1)
        steps += other.steps + 1
        if effect == "union":
            ordered, placed = ordered and other.ordered, placed and other.placed
        if "cartesian" in text:
            placed = placed and other.placed
    if effect in (BAG, ANYWHERE):
        ordered = False
        placed = effect == BAG and (placed or "cartesian" not in text)
    elif effect == ORDERED:
        ordered, placed = True, False
    elif effect == SORTED_HERE:
        ordered = placed = True
    return replace(program, text=program.text + text, kind=kind, ordered=ordered, placed=placed, steps=steps)


@st.composite
def programs(draw: Any) -> tuple[Program, str, str]:
    """An RDD, an action on it, and how results are to be compared: exactly, as a bag, as a list of bags."""
    program = draw(rdds())
    possible = [
        (text, needs)
        for text, kinds, needs in ACTIONS
        if program.kind in kinds.split()
        and (needs not in ("place", "both") or program.placed)
        and (needs not in ("order", "both") or program.ordered)
    ]
    text, _needs = draw(st.sampled_from(possible))
    if program.placed and draw(st.integers(0, 3)) == 3:
        text = ".glom().collect()"
    how = "exactly"
    if not program.ordered:
        how = {".collect()": "bag", ".toLocalIterator()": "bag", ".glom().collect()": "bags"}.get(text, how)
    if text.startswith(".lookup"):
        how = "bag"
    return program, _fill(draw, text), how


# ---------------------------------------------------------------------------------------------- running


class Failed(Exception):
    """A job failed, on either side."""


def run(text: str, names: dict[str, Any], how: str) -> Any:
    try:
        # a module of no such name: functions go by value
        result = eval(text, {"__name__": "differential", "add": operator.add, **names})
        if text.endswith(".toLocalIterator()"):
            result = list(result)
    except (Py4JJavaError, JobFailed) as error:
        return Failed(str(error)[-1000:])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return error
    if how == "bag":
        return sorted(result)
    if how == "bags":
        return [sorted(part) for part in result]
    return result


def same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        return isinstance(ours, type(theirs))
    if isinstance(theirs, float):
        close = math.isclose(theirs, ours, rel_tol=1e-9) or (math.isnan(theirs) and math.isnan(ours))
        return isinstance(ours, float) and close
    if isinstance(theirs, (list, tuple)):
        return type(theirs) is type(ours) and len(theirs) == len(ours) and all(map(same, theirs, ours))
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and theirs == ours
    return type(theirs) is type(ours) and bool(theirs == ours)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", type=int, default=300)
    options.add_argument("--seed", type=int, default=None, help="the same programs again")
    options.add_argument("--master", default="processes[2]", help="asparkle's; PySpark's is local[2]")
    chosen = options.parse_args()
    number = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(3))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONHASHSEED"] = "0"  # which PySpark asks of its workers

    counts: Counter[str] = Counter()
    start = time.monotonic()
    conf = pyspark.SparkConf().setMaster("local[2]").setAppName("differential")
    for key, value in [
        ("driver.bindAddress", "127.0.0.1"),
        ("ui.enabled", "false"),
        ("ui.showConsoleProgress", "false"),
    ]:
        conf.set(f"spark.{key}", value)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "lines.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(LINES))
        spark = pyspark.SparkContext(conf=conf)
        spark.setLogLevel("OFF")
        ours = asparkle.SparkContext(chosen.master, "differential")

        @seed(number)
        @settings(
            max_examples=chosen.programs,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            print_blob=False,
        )
        @given(programs())
        def check(made: tuple[Program, str, str]) -> None:
            program, action, how = made
            text = program.text + action
            theirs = run(text, {"sc": spark, "path": path}, how)
            mine = run(text, {"sc": ours, "path": path}, how)
            counts["programs"] += 1
            counts["operations"] += program.steps + 1
            counts["compared " + how] += 1
            counts["raised"] += isinstance(theirs, Exception)
            assert same(theirs, mine), f"\n{text}\ncompared: {how}\nPySpark:  {theirs!r}\nasparkle: {mine!r}"

        try:
            check()
        except AssertionError as difference:
            print(f"{difference}\n(--seed {number})")
            return 1
        finally:
            ours.stop()
            spark.stop()
    compared = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"no difference: {compared}; {time.monotonic() - start:.0f} s; --seed {number}")
    print(f"asparkle {asparkle.__version__} on {chosen.master}, PySpark {pyspark.__version__} on local[2]")
    return 0


if __name__ == "__main__":
    sys.exit(main())

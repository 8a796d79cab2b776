"""Programs made by hypothesis, run on asparkle and on PySpark in one process: what they give must be equal.

    python contrib/dev/pyspark_differential.py [--programs N] [--seed S] [--master M] [--keep-going]

Needs PySpark, Java and hypothesis. A program is an expression for an RDD, such as ``sc.parallelize([3, 1], 2)
.map(lambda x: x + 1).distinct()``, and an action. Each has the next operation of the table below, with others before
and after it, and of the actions that are possible the one used least so far. Two things are compared:

- what the action gives;
- how many partitions the RDD has and what is in each, as far as PySpark promises it. Elements have an order where
  operations keep or make one. They have a place, their partition, until it goes by a range partitioner (it samples), by
  a random one, or by a hash of strings (asparkle has another one).

Where PySpark raises, so must asparkle: the same built-in error in the driver, or a job that fails for the same error in
a task. The first program that differs is made as small as can be and printed; with ``--keep-going`` all that differ
are, as they are. At the end it says how often everything was drawn.
"""

from __future__ import annotations

import argparse
import glob
import math
import operator
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

try:
    import pyspark
    from hypothesis import HealthCheck, Phase, assume, given, seed, settings
    from hypothesis import strategies as st
    from py4j.protocol import Py4JJavaError
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here: pip install pyspark hypothesis")

import asparkle
from asparkle.errors import JobFailed

# ------------------------------------------------------------------------------------------- elements

_small = st.integers(-5, 5)
_number = _small | st.integers(-50, 50) | st.sampled_from([2**31, -(2**63), 10**30])
_word = st.sampled_from(["a", "b", "to", "be", "tea", "", " ", "to  be\t", "é", "日本", "😀", "two\nlines"])
# hashable, without strings; no two are equal, as 1 and True are: which of them distinct keeps is not promised
_thing = st.sampled_from([None, True, 0, -1, -2, 2**70, 2.5, math.inf, -math.inf, (), (None,), (3, (False, -0.5))])

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": _number,
    "float": st.sampled_from([-2.5, 0.25, 1.0, 1.5, 3.0, 1e300, math.inf, -math.inf]) | _small.map(lambda n: n / 4),
    "str": _word,
    "thing": _thing,
    "pair": st.tuples(st.integers(-2, 3), _number),
    "keyed": st.tuples(_thing, _small),
    "named": st.tuples(_word, _small),
}
STRINGS = ("str", "named")  # kinds whose elements or keys are strings

FILES = {
    "lines.txt": b"to be\nor not\n\nto be\nthat is\nthe question: \xc3\xa4",
    "crlf.txt": b"one\r\ntwo\r\n\r\nthree\rfour\n\r\n",
    "empty.txt": b"",
    "many.txt": "".join(f"{n} {'ß' * (n % 7)}\n" for n in range(40)).encode(),
}

# ------------------------------------------------------------------------------------------- operations
#
# The kinds of elements that it is for ("*" all), its text, the kind of what it gives ("=" the same), and what it does
# to order and place. That may begin with what is needed for the same result, "order", "place" or "both", and is
#
#   keeps     elements have the order and the places that they had
#   exact     elements have an order and a place, whatever was before
#   ordered   an order, but no place
#   mixed     the places that they had, no order
#   hashed    a place by the hash of the element or its key, no order
#   placed    a place by what a function gives, no order
#   anywhere  neither
#
# Letters in braces are drawn: {a} {b} small ints, {m} a modulus, {n} a number of partitions, {f} a flag, {s} a seed,
# {r} a fraction, {x} another RDD of the same kind. {me} is the RDD itself, which stands in front if it isn't there.


class Operation(NamedTuple):
    kinds: str
    text: str
    kind: str
    effect: str

    @property
    def needs(self) -> str:
        return self.effect.rpartition(": ")[0]


OPERATIONS = [Operation(*row) for row in [
    ("*", ".cache()", "=", "keeps"),
    ("*", ".map(lambda x: x).persist(StorageLevel.DISK_ONLY)", "=", "keeps"),
    ("*", ".filter(lambda x: len(repr(x)) % {m} != 1)", "=", "keeps"),
    ("*", ".flatMap(lambda x: [x] * (len(repr(x)) % {m}))", "=", "keeps"),
    ("*", ".map(lambda x: len(repr(x)))", "int", "keeps"),
    ("*", ".map(repr)", "str", "keeps"),
    ("*", ".keyBy(lambda x: len(repr(x)) % {m}).mapValues(repr).values()", "str", "keeps"),
    ("*", ".glom().flatMap(lambda xs: xs)", "=", "keeps"),
    ("*", ".mapPartitions(list)", "=", "keeps"),
    ("*", ".mapPartitions(lambda xs: sorted(xs, key=repr))", "=", "place: exact"),
    ("*", ".mapPartitions(lambda xs: [len(list(xs))])", "int", "place: exact"),
    ("*", ".mapPartitionsWithIndex(lambda i, xs: xs if i % {m} else [])", "=", "place: keeps"),
    ("*", ".mapPartitionsWithIndex(lambda i, xs: [(i, sum(1 for _ in xs))])", "pair", "place: exact"),
    ("*", ".pipe('wc -l')", "str", "place: exact"),
    ("int", ".pipe('cat')", "str", "keeps"),
    ("str", ".pipe('cat')", "str", "keeps"),
    ("*", "reread({me}, 'saveAsPickleFile', 'pickleFile')", "=", "both: keeps"),
    # PySpark gives all the type of the first: here ints of 32 bits
    ("pair", "reread({me}.map(lambda kv: (kv[0] % 99, kv[1] % 99)), 'saveAsSequenceFile', 'sequenceFile')", "=",
     "both: keeps"),
    ("named", "reread({me}.mapValues(lambda v: v % 99), 'saveAsSequenceFile', 'sequenceFile')", "=", "both: keeps"),
    ("int str", "reread({me}, 'saveAsTextFile', 'textFile')", "str", "both: keeps"),
    ("int", ".zipWithIndex()", "pair", "order: keeps"),
    ("str", ".zipWithIndex()", "named", "order: keeps"),
    ("thing pair", ".zipWithIndex()", "keyed", "order: keeps"),
    ("int", ".zipWithUniqueId()", "pair", "both: keeps"),
    ("str", ".zipWithUniqueId()", "named", "both: keeps"),
    ("thing pair", ".zipWithUniqueId()", "keyed", "both: keeps"),
    ("int", "(lambda rdd: rdd.zip(rdd.map(lambda x: x * {a})))({me})", "pair", "keeps"),
    ("str", "(lambda rdd: rdd.zip(rdd.map(len)))({me})", "named", "keeps"),
    ("thing pair keyed", "(lambda rdd: rdd.zip(rdd.glom().flatMap(lambda xs: xs)))({me})", "thing", "keeps"),
    ("*", ".sample(False, {r}, {s})", "=", "both: keeps"),
    ("*", ".sample(True, {r}, {s})", "=", "both: keeps"),
    ("*", ".randomSplit([1.0, 2.0, {m}], {s})[1]", "=", "both: keeps"),
    ("*", ".coalesce({n})", "=", "keeps"),
    ("*", ".coalesce({n}, True)", "=", "anywhere"),
    ("*", ".repartition({n})", "=", "anywhere"),
    ("*", ".union({x})", "=", "keeps"),
    ("*", "sc.union([{me}, {x}, {x}])", "=", "keeps"),
    ("int", ".cartesian({x})", "pair", "mixed"),
    ("thing pair keyed", ".cartesian({x})", "thing", "mixed"),
    ("int float str thing", ".distinct()", "=", "hashed"),
    ("int float str thing", ".distinct({n})", "=", "hashed"),
    ("pair keyed named", ".distinct()", "=", "anywhere"),  # asparkle leaves pairs with a partitioner in place
    ("*", ".intersection({x})", "=", "hashed"),
    ("*", ".subtract({x})", "=", "hashed"),
    ("*", ".subtract({x}, {n})", "=", "hashed"),
    ("*", ".groupBy(lambda x: len(repr(x)) % {m}).mapValues(len)", "pair", "placed"),
    ("int float thing pair keyed", ".groupBy(lambda x: len(repr(x)), {n}).mapValues(tuple)", "thing", "order: placed"),
    ("*", "(lambda rdd: rdd.sortBy(repr, {f}, unless_empty(rdd, {n})))({me})", "=", "ordered"),
    ("*", ".sortBy(lambda x: len(repr(x)), {f})", "=", "order: ordered"),  # equal keys stay in their order
    ("int float str pair named", "(lambda rdd: rdd.sortBy(lambda x: x, {f}, unless_empty(rdd, {n})))({me})",
     "=", "ordered"),
    # numbers
    ("int", ".map(lambda x: x * {a} + {b})", "int", "keeps"),
    ("int", ".flatMap(lambda x: range(x % {m}))", "int", "keeps"),
    ("int", ".map(lambda x: (x % {m}, x))", "pair", "keeps"),
    ("int", ".keyBy(lambda x: x // {m})", "pair", "keeps"),
    ("int", ".map(lambda x: (str(x % {m}), x))", "named", "keeps"),
    ("int", ".map(lambda x: x / 4)", "float", "keeps"),
    ("int", ".map(lambda x: (None, x, (x,))[x % 3])", "thing", "keeps"),
    ("int float", ".mapPartitions(lambda xs: [sum(xs)])", "=", "both: exact"),
    ("float", ".map(abs)", "float", "keeps"),
    ("float", ".map(lambda x: (x, {a}))", "keyed", "keeps"),
    # strings
    ("str", ".map(str.upper)", "str", "keeps"),
    ("str", ".flatMap(str.split)", "str", "keeps"),
    ("str", ".map(lambda s: (s, len(s)))", "named", "keeps"),
    ("str", ".map(lambda s: (s[:1], {a}))", "named", "keeps"),
    # anything hashable
    ("thing", ".filter(bool)", "thing", "keeps"),
    ("thing", ".map(lambda x: (x, {a}))", "keyed", "keeps"),
    ("thing", ".map(lambda x: (x, None))", "thing", "keeps"),
    # pairs
    ("pair", ".keys()", "int", "keeps"),
    ("keyed", ".keys()", "thing", "keeps"),
    ("named", ".keys()", "str", "keeps"),
    ("pair keyed named", ".values()", "int", "keeps"),
    ("pair keyed named", ".mapValues(lambda v: v * {a} + {b})", "=", "keeps"),
    ("pair keyed named", ".flatMapValues(lambda v: range(v % {m}))", "=", "keeps"),
    ("pair keyed", ".mapValues(lambda v: (v, None))", "thing", "keeps"),
    ("pair", ".map(lambda kv: (kv[1], kv[0]))", "pair", "keeps"),
    ("keyed", ".map(lambda kv: (kv[1], len(repr(kv[0]))))", "pair", "keeps"),
    ("pair", ".map(lambda kv: (kv[0] % 9, kv[1])).sampleByKey(False, {{k: {r} for k in range(9)}}, {s})", "=",
     "both: keeps"),
    ("pair", ".map(lambda kv: (kv[0] % 9, kv[1])).sampleByKey(True, {{k: {r} * k for k in range(9)}}, {s})", "=",
     "both: keeps"),
    ("pair keyed named", ".partitionBy({n})", "=", "hashed"),
    ("pair keyed named", ".partitionBy({n}, lambda k: len(repr(k)))", "=", "placed"),
    ("pair", ".repartitionAndSortWithinPartitions({n})", "=", "order: exact"),
    ("pair keyed named", ".repartitionAndSortWithinPartitions({n}, lambda k: len(repr(k)), {f}, repr)", "=",
     "order: exact"),
    ("pair named", "(lambda rdd: rdd.sortByKey({f}, unless_empty(rdd, {n})))({me})", "=", "order: ordered"),
    # with more partitions PySpark compares keys with what keyfunc gives
    ("pair keyed named", ".sortByKey({f}, 1, lambda k: len(repr(k)))", "=", "order: exact"),
    ("pair keyed named", ".reduceByKey(add)", "=", "hashed"),
    ("pair keyed named", ".reduceByKey(max, {n})", "=", "hashed"),
    ("pair keyed named", ".reduceByKey(min, {n}, lambda k: len(repr(k)) // 2)", "=", "placed"),
    ("pair keyed named", ".foldByKey({a}, add)", "=", "place: hashed"),
    ("pair keyed named", ".foldByKey({a}, add, {n})", "=", "place: hashed"),
    ("pair keyed", ".aggregateByKey([{a}], lambda a, v: a.append(v) or a, add).mapValues(tuple)", "thing",
     "both: hashed"),
    ("pair keyed named", ".aggregateByKey({a}, lambda a, v: a + v, max, {n})", "=", "place: hashed"),
    ("pair keyed", ".combineByKey(lambda v: (v,), lambda c, v: (*c, v), lambda a, b: (a, b))", "thing", "both: hashed"),
    ("pair keyed named", ".combineByKey(lambda v: v + {a}, add, add, {n})", "=", "place: hashed"),
    ("pair keyed", ".groupByKey().mapValues(tuple)", "thing", "order: hashed"),
    ("pair keyed named", ".groupByKey({n}).mapValues(lambda v: sorted(v)[0])", "=", "hashed"),
    ("pair keyed", ".join({x})", "thing", "hashed"),
    ("pair keyed", ".join({x}, {n})", "thing", "hashed"),
    ("named", ".join({x}).map(repr)", "str", "hashed"),
    ("pair keyed", ".leftOuterJoin({x})", "thing", "hashed"),
    ("named", ".leftOuterJoin({x}, {n}).map(repr)", "str", "hashed"),
    ("pair keyed", ".rightOuterJoin({x}, {n})", "thing", "hashed"),
    ("pair keyed", ".fullOuterJoin({x})", "thing", "hashed"),
    ("named", ".fullOuterJoin({x}, {n}).map(repr)", "str", "hashed"),
    ("pair keyed", ".cogroup({x}).mapValues(lambda vs: tuple(map(tuple, vs)))", "thing", "order: hashed"),
    ("named", ".cogroup({x}, {n}).mapValues(lambda vs: len(vs[0]) * 7 + len(vs[1]))", "named", "hashed"),
    ("pair keyed", ".groupWith({x}, {x}).mapValues(lambda vs: tuple(map(tuple, vs)))", "thing", "order: hashed"),
    ("pair keyed named", ".subtractByKey({x})", "=", "hashed"),
    ("pair keyed named", ".subtractByKey({x}, {n})", "=", "hashed"),
]]  # fmt: skip

# Where an RDD begins: kinds and text. {list} is a list of elements.
LISTS = ["sc.parallelize({list})", "sc.parallelize({list}, {n})"]
SOURCES: list[tuple[str, str]] = [
    ("int", "sc.range({a}, 30, {m}, {n})"),
    ("int", "sc.parallelize(range(20, {b}, -{m}), {n})"),
    ("str", "sc.parallelize('hello world', {n})"),
    ("str", "sc.textFile(files + '/many.txt')"),
    ("str", "sc.textFile(files + '/lines.txt', {n})"),
    ("str", "sc.textFile(files + '/crlf.txt', {n})"),
    ("str", "sc.textFile(f'{{files}}/many.txt,{{files}}/lines.txt,{{files}}/empty.txt', {n})"),
    ("str", "sc.textFile(files + '/*m*.txt', {m})"),
    ("named", "sc.wholeTextFiles(files, {n}).coalesce(1).mapPartitions(sorted).map(lambda f: (f[0][-8:], len(f[1])))"),
]

# What is done with an RDD at the end: kinds, text, and what it needs to be the same ("" nothing).
ACTIONS: list[tuple[str, str, str]] = [
    ("*", "sorted({me}.collect(), key=repr)", ""),
    ("*", ".collect()", "order"),
    ("*", "list({me}.toLocalIterator())", "order"),
    ("*", ".collectWithJobGroup('group', 'description')", "order"),
    ("*", "saved({me})", "both"),
    ("*", ".count()", ""),
    ("*", ".countApprox(100_000)", ""),
    ("*", ".isEmpty()", ""),
    ("*", ".first()", "order"),
    ("*", ".take({n} * 4)", "order"),
    ("*", ".takeOrdered({n}, key=repr)", ""),
    ("*", ".takeOrdered({n} * 2, key=lambda x: len(repr(x)))", "order"),
    ("int float str pair named", ".takeOrdered({n})", ""),
    ("*", ".top({n}, key=repr)", ""),
    ("*", ".top({n} * 2, key=lambda x: len(repr(x)))", "order"),
    ("int float str pair named", ".top({n})", ""),
    ("*", ".countByValue()", ""),
    ("*", ".takeSample(False, {n}, {s})", "both"),
    ("*", ".takeSample(True, {n}, {s})", "both"),
    ("*", ".takeSample(False, {a}, {s})", "both"),
    ("int float str pair named", ".reduce(max)", ""),
    ("int float str pair named", ".treeReduce(min, {n})", ""),
    ("int float str pair named", ".max()", ""),
    ("*", ".max(key=lambda x: len(repr(x)))", "order"),
    ("*", ".min(key=repr)", ""),
    ("*", ".min(key=lambda x: len(repr(x)))", "order"),
    ("*", ".map(lambda x: (x,)).fold((None,), add)", "both"),
    ("*", ".aggregate([{a}], lambda a, x: a.append(x) or a, add)", "both"),
    ("*", ".treeAggregate({a}, lambda a, x: a + len(repr(x)), add, {n})", "place"),
    ("*", ".map(lambda x: {m} // (len(repr(x)) - 2)).sum()", ""),
    ("*", ".map(lambda x: [5, 6, 7][len(repr(x)) - {m}]).collect()", "order"),
    ("*", ".map(lambda x: ([x], 1)).reduceByKey(add).collect()", ""),
    ("*", ".zip(sc.range({n} * 3, numSlices={n})).collect()", "both"),
    ("*", ".pipe('exit {m}', checkCode=True).count()", ""),
    ("*", ".coalesce({a}).getNumPartitions()", ""),
    ("*", ".repartition(2).barrier().mapPartitions(lambda xs: [len(list(xs))]).sum()", ""),
    ("*", "added({me}, 'foreach')", ""),
    ("*", "added({me}, 'foreachPartition')", ""),
    ("int float", ".sum()", ""),
    ("int float", ".mean()", ""),
    ("int float", ".stats().asDict()", ""),
    ("int float", ".variance()", ""),
    ("int float", ".stdev()", ""),
    ("int float", ".sampleStdev()", ""),
    ("int float", ".sampleVariance()", ""),
    ("float", ".map(lambda x: x - x).stats().asDict()", ""),
    ("float", ".map(lambda x: x - x).histogram({n})", ""),
    ("int float", ".sumApprox(100_000)", ""),
    ("int float", ".meanApprox(100_000)", ""),
    ("float", ".histogram({n})", ""),
    ("int", ".map(lambda x: x % 1000).histogram({n})", ""),
    ("int float", ".histogram([-10, 0, 5, 40])", ""),
    ("str", ".histogram(['', 'b', 'to', 'tz'])", ""),
    ("str", ".sum()", ""),
    ("pair keyed named", ".countByKey()", ""),
    ("pair keyed named", ".collectAsMap()", "order"),
    ("pair keyed named", ".reduceByKeyLocally(add)", ""),
    ("pair keyed", ".lookup({a})", "order"),
    ("pair keyed", "sorted({me}.lookup(-1))", ""),
    # the map takes its partitioner away: a string hashes otherwise in the driver, whose seed is not 0
    ("named", "sorted({me}.map(lambda kv: kv).lookup('to'))", ""),
]


def unless_empty(rdd: Any, partitions: int) -> int:
    """PySpark's sorts leave an empty RDD as it is, with as many partitions."""
    return int(rdd.getNumPartitions()) if rdd.isEmpty() else partitions


def reread(rdd: Any, save: str, load: str) -> Any:
    """What ``rdd`` saves, read part by part: the order of a directory's files is not promised."""
    if "Sequence" in save and rdd.isEmpty():  # PySpark saves none
        return rdd
    path = tempfile.mkdtemp(dir=tempfile.tempdir) + "/out"
    getattr(rdd, save)(path)
    parts = sorted(glob.glob(f"{path}/part-*")) or [path]
    return rdd.context.union([getattr(rdd.context, load)(part) for part in parts])


def saved(rdd: Any) -> dict[str, bytes]:
    path = Path(tempfile.mkdtemp(dir=tempfile.tempdir), "out")
    rdd.saveAsTextFile(str(path))
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix != ".crc"}


def added(rdd: Any, method: str) -> Any:
    total = rdd.context.accumulator(0)
    weigh = {"foreach": lambda x: total.add(len(repr(x))), "foreachPartition": lambda xs: total.add(len(list(xs)))}
    getattr(rdd, method)(weigh[method])
    return total.value


# --------------------------------------------------------------------------------------------- programs

_LETTERS: dict[str, st.SearchStrategy[Any]] = {
    "a": _small,
    "b": _small,
    "m": st.integers(1, 7),
    "n": st.integers(1, 4),
    "f": st.booleans(),
    "s": st.integers(0, 99),
    "r": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
}
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Program:
    """An expression for an RDD, of what its elements are, and what is promised of their order and place."""

    text: str
    kind: str
    ordered: bool = True
    placed: bool = True
    drawn: tuple[str, ...] = ()

    def has(self, needed: str) -> bool:
        return (self.ordered or needed not in ("order", "both")) and (self.placed or needed not in ("place", "both"))


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def is_for(kinds: str, kind: str) -> bool:
    return kinds == "*" or kind in kinds.split()


def name_of(text: str) -> str:
    found = re.search(r"saveAs\w+|sampleByKey|histogram|lookup", text) or re.search(r"(?<=\.)\w+(?=\()", text)
    return found[0] if found else text.partition("(")[0]


def rarest(operations: list[Operation], used: Counter[str]) -> list[Operation]:
    """The third of ``operations`` that was drawn least."""
    return sorted(operations, key=lambda operation: used[operation.text])[: len(operations) // 3 + 1]


def fill(draw: Draw, text: str, **others: str) -> str:
    drawn = {letter: draw(how) for letter, how in _LETTERS.items() if f"{{{letter}}}" in text}
    return text.format(**{"x": "{x}", "me": "{me}"} | drawn | others)


@st.composite
def rdds(draw: Draw, kind: str, most: int, used: Counter[str]) -> Program:
    """A source of ``kind``, and up to ``most`` operations that keep the kind and need no other RDD."""
    sources = [text for kinds, text in SOURCES if is_for(kinds, kind)]
    source = draw(st.sampled_from(LISTS * 2 + sources))
    size = draw(st.sampled_from([0, 1, 5, 8, 10, 12, 15, 20, 30])) if "{list}" in source else 0
    elements = draw(st.lists(KINDS[kind], min_size=size, max_size=size))
    program = Program(fill(draw, source, list=repr(elements).replace("inf", "math.inf")), kind, drawn=(source,))
    for _ in range(draw(st.integers(0, most))):
        possible = [o for o in OPERATIONS if o.kind in ("=", kind) and "{x}" not in o.text and is_for(o.kinds, kind)]
        possible = rarest([o for o in possible if program.has(o.needs)], used)
        program = longer(draw, program, draw(st.sampled_from(possible)), used)
    return program


def longer(draw: Draw, program: Program, operation: Operation, used: Counter[str]) -> Program:
    """``program`` with an operation that is possible on it."""
    ordered, placed, drawn = program.ordered, program.placed, (*program.drawn, operation.text)
    text = fill(draw, operation.text)
    while "{x}" in text:
        other = draw(rdds(program.kind, 1, used).filter(lambda other: other.has(operation.needs)))
        text = text.replace("{x}", other.text, 1)
        ordered, placed, drawn = ordered and other.ordered, placed and other.placed, drawn + other.drawn
    effect = operation.effect.rpartition(": ")[2]
    if effect != "keeps":
        ordered = effect in ("exact", "ordered")
        placed = {"mixed": placed, "hashed": program.kind not in STRINGS}.get(effect, effect in ("exact", "placed"))
    return Program(
        text.replace("{me}", program.text) if "{me}" in text else program.text + text,
        program.kind if operation.kind == "=" else operation.kind,
        ordered,
        placed,
        drawn,
    )


@st.composite
def programs(draw: Draw, operation: Operation, used: Counter[str]) -> tuple[Program, str, str]:
    """An RDD that ``operation`` has a part in, and an action on it: as the table has it, and with its letters drawn."""
    assume(bool(draw(st.integers(0, 9))))  # hypothesis begins with the simplest of all, which is not worth the time
    kind = draw(st.sampled_from([kind for kind in KINDS if is_for(operation.kinds, kind)]))
    program = draw(rdds(kind, 2, used).filter(lambda before: before.has(operation.needs)))
    program = longer(draw, program, operation, used)
    for _ in range(draw(st.integers(0, 2))):
        possible = [o for o in OPERATIONS if is_for(o.kinds, program.kind) and program.has(o.needs)]
        program = longer(draw, program, draw(st.sampled_from(rarest(possible, used))), used)
    # from the end: those for few kinds come first
    actions = [text for kinds, text, needs in reversed(ACTIONS) if is_for(kinds, program.kind) and program.has(needs)]
    action = min(actions, key=lambda text: used[text])
    return program, action, fill(draw, action if "{me}" in action else "{me}" + action)


# ---------------------------------------------------------------------------------------------- running


class Failed(NamedTuple):
    """A job failed, on either side: the names that its error has."""

    names: tuple[str, ...]


def attempt(text: str, names: dict[str, Any]) -> Any:
    try:
        # a module of no such name: functions go by value
        return eval(text, {"__name__": "differential", "add": operator.add, "math": math, **names})
    except Py4JJavaError as error:
        return Failed(
            tuple(re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception))\b", str(error).split("\tat")[0], re.M)[-1:])
        )
    except JobFailed as error:
        return Failed(tuple(kind.__name__ for kind in type(error.__cause__).__mro__))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return error


def contents(rdd: Any, program: Program) -> tuple[int, Any]:
    """How many partitions there are, and what is in them: as far as it is promised."""
    parts = rdd.glom().collect()
    if not program.ordered:
        parts = [sorted(part, key=repr) for part in parts]
    if not program.placed:
        parts = [x for part in parts for x in part]
        if not program.ordered:
            parts.sort(key=repr)
    return rdd.getNumPartitions(), parts


def same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, Failed):
        if not theirs.names:  # an error of the JVM's own
            return isinstance(ours, (Failed, Exception))
        return isinstance(ours, Failed) and set(theirs.names) <= set(ours.names)
    if isinstance(theirs, Exception):
        return isinstance(ours, type(theirs))
    if isinstance(theirs, float):
        close = math.isclose(theirs, ours, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(theirs) and math.isnan(ours))
        return isinstance(ours, float) and close
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and same(sorted(theirs.items(), key=repr), sorted(ours.items(), key=repr))
    if isinstance(theirs, (list, tuple)):
        return type(theirs) is type(ours) and len(theirs) == len(ours) and all(map(same, theirs, ours))
    return type(theirs) is type(ours) and bool(theirs == ours)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", type=int, default=300)
    options.add_argument("--seed", type=int, default=None, help="the same programs again")
    options.add_argument("--master", default="processes[2]", help="asparkle's; PySpark's is local[2]")
    options.add_argument("--keep-going", action="store_true", help="print every program that differs, as it is")
    chosen = options.parse_args()
    number = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(3))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONHASHSEED"] = "0"  # which PySpark asks of its workers

    start = time.monotonic()
    operations, actions, compared = Counter[str](), Counter[str](), Counter[str]()
    conf = pyspark.SparkConf().setMaster("local[2]").setAppName("differential")
    for key, value in [
        ("driver.bindAddress", "127.0.0.1"),
        ("driver.extraJavaOptions", "-XX:TieredStopAtLevel=1"),  # starts sooner
        ("ui.enabled", "false"),
        ("ui.showConsoleProgress", "false"),
    ]:
        conf.set(f"spark.{key}", value)
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        files = Path(directory, "files")
        files.mkdir()
        for name, content in FILES.items():
            files.joinpath(name).write_bytes(content)
        names = {"unless_empty": unless_empty, "files": str(files), "reread": reread, "saved": saved, "added": added}
        spark = pyspark.SparkContext(conf=conf)
        spark.setLogLevel("OFF")
        ours = asparkle.SparkContext(chosen.master, "differential")
        sides = [
            {"sc": spark, "StorageLevel": pyspark.StorageLevel, **names},
            {"sc": ours, "StorageLevel": asparkle.StorageLevel, **names},
        ]

        def check(made: tuple[Program, str, str]) -> None:
            program, action, text = made
            rdds = [attempt(program.text, side) for side in sides]
            operations.update(program.drawn)
            actions[action] += 1
            compared[("by partition" if program.placed else "whole") + (", in order" if program.ordered else "")] += 1
            for what in (text.replace("{me}", "rdd"), "contents(rdd, program)"):
                more = {"contents": contents, "program": program}
                theirs, mine = (
                    rdd if isinstance(rdd, (Failed, Exception)) else attempt(what, {**side, **more, "rdd": rdd})
                    for rdd, side in zip(rdds, sides, strict=True)
                )
                compared["errors"] += isinstance(theirs, (Failed, Exception))
                assert same(theirs, mine), f"\nrdd = {program.text}\n{what}\nPySpark:  {theirs!r}\nasparkle: {mine!r}"

        deck = random.Random(number).sample(OPERATIONS, len(OPERATIONS))
        how = settings(
            max_examples=1,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if chosen.keep_going else [Phase.generate, Phase.shrink],
            print_blob=False,
        )
        differences = 0
        try:
            for i in range(chosen.programs):  # each a run of hypothesis: one long run repeats itself
                try:
                    seed(number * 1_000_003 + i)(
                        how(given(programs(deck[i % len(deck)], operations + actions))(check))
                    )()
                except AssertionError as difference:
                    print(difference, flush=True)
                    differences += 1
                    if not chosen.keep_going:
                        break
        finally:
            ours.stop()
            spark.stop()
    print(f"\n{differences or 'no'} differences; {time.monotonic() - start:.0f} s; --seed {number}")
    print(f"compared: {listed(compared)}")
    for what, texts, used in [
        ("operations", [o.text for o in OPERATIONS] + LISTS + [text for _, text in SOURCES], operations),
        ("actions", [text for _, text, _ in ACTIONS], actions),
    ]:
        by_name = Counter[str]()
        for text, count in used.items():
            by_name[name_of(text)] += count
        never = sum(not used[text] for text in texts)
        print(f"{used.total()} {what}, {never} of {len(texts)} never: {listed(by_name)}")
    print(f"asparkle {asparkle.__version__} on {chosen.master}, PySpark {pyspark.__version__} on local[2]")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

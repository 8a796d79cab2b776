"""Random pipelines of random operations over random data give on every backend what plain Python gives.

The model of an RDD is a list of lists, one per partition, and its partitioner; each operation is written
again here over these, as its documentation has it, down to the partition and the order of every element.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masters import MASTERS

from asparkle.aio import RDD, SparkContext, StatCounter, StorageLevel
from asparkle.core.closures import fixed
from asparkle.core.errors import EmptyRDDError
from asparkle.core.hashing import portable_hash
from asparkle.core.partitioner import Partitioner, RangePartitioner, bounds_from_samples

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]


Partitions = list[list[Any]]

# ------------------------------------------------------------------------------------------- the model


@dataclass(eq=False)
class Model:
    """What an RDD should be, and how to make the RDD."""

    parts: Partitions
    make: Callable[[SparkContext, Callable[[Model], RDD]], RDD]
    text: str
    partitioner: Partitioner | None = None
    level: StorageLevel | None = None
    inputs: list[Model] = field(default_factory=list)

    @property
    def elements(self) -> list[Any]:
        return list(itertools.chain.from_iterable(self.parts))

    def __repr__(self) -> str:
        return self.text + (f".persist({self.level!r})" if self.level else "")


def one(source: Model, text: str, parts: Partitions, make: Callable[[RDD], RDD], partitioner: Any = None) -> Model:
    """The model of an operation on one RDD."""
    return Model(parts, lambda sc, rdd: make(rdd(source)), f"{source!r}.{text}", partitioner, inputs=[source])


def two(
    left: Model,
    right: Model,
    text: str,
    parts: Partitions,
    make: Callable[[RDD, RDD], RDD],
    partitioner: Any = None,
) -> Model:
    return Model(
        parts,
        lambda sc, rdd: make(rdd(left), rdd(right)),
        f"{left!r}.{text}({right!r})",
        partitioner,
        inputs=[left, right],
    )


def default_partitions(*models: Model) -> int:
    first = models[0].partitioner
    if first is not None and all(m.partitioner == first for m in models):
        return first.numPartitions
    return sum(len(m.parts) for m in models) or 1


def shuffled(
    parts: Partitions, partitioner: Partitioner, keys: Callable[[Any], Any] = operator.itemgetter(0)
) -> list[Partitions]:
    """For each reducer, what each map partition sends to it."""
    pieces = [[[] for _ in parts] for _ in range(partitioner.numPartitions)]
    for i, part in enumerate(parts):
        for x in part:
            pieces[partitioner(keys(x))][i].append(x)
    return pieces


def combined(model: Model, partitioner: Partitioner, create: Any, merge_value: Any, merge_combiners: Any) -> Partitions:
    def fold(records: list[Any]) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        for k, v in records:
            table[k] = merge_value(table[k], v) if k in table else create(v)
        return table

    if model.partitioner == partitioner:
        return [list(fold(part).items()) for part in model.parts]
    result = []
    for pieces in shuffled(model.parts, partitioner):
        table: dict[Any, Any] = {}
        for piece in pieces:
            for k, c in fold(piece).items():
                table[k] = merge_combiners(table[k], c) if k in table else c
        result.append(list(table.items()))
    return result


def regrouped(model: Model, partitioner: Partitioner) -> Partitions:
    """The records of each partition of a shuffle, in map order."""
    if model.partitioner == partitioner:
        return model.parts
    return [list(itertools.chain.from_iterable(pieces)) for pieces in shuffled(model.parts, partitioner)]


def cogrouped(models: list[Model], partitioner: Partitioner) -> list[list[tuple[Any, list[list[Any]]]]]:
    result = []
    for inputs in zip(*(regrouped(m, partitioner) for m in models), strict=True):
        table: dict[Any, list[list[Any]]] = {}
        for i, records in enumerate(inputs):
            for k, v in records:
                table.setdefault(k, [[] for _ in models])[i].append(v)
        result.append(list(table.items()))
    return result


# ------------------------------------------------------------------------------------------- what is drawn

scalars = st.one_of(
    st.integers(-4, 4),
    st.sampled_from([0.0, 1.0, 2.5, -3.0]),
    st.booleans(),
    st.sampled_from(["", "a", "b", "é", "1"]),
    st.none(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([(), (1,), (1, "a"), (None, (1.0,))]),
)
pairs = st.tuples(scalars, scalars)
small = st.integers(-3, 3)
kinds = [scalars, pairs, small, st.tuples(small, small)]


def evenly(data: Any, slices: int) -> Partitions:
    n = len(data)
    return [list(data[i * n // slices : (i + 1) * n // slices]) for i in range(slices)]


def in_batches(data: Any, slices: int) -> Partitions:
    """PySpark pickles a collection in batches of at most 1,024 elements, and deals these out evenly."""
    size = max(1, min(len(data) // slices, 1024))
    batches = [data[i : i + size] for i in range(0, len(data), size)]
    return [list(itertools.chain.from_iterable(some)) for some in evenly(batches, slices)]


@st.composite
def sources(draw: Any, elements: Any = None) -> Model:
    slices = draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["list", "list", "list", "range", "empty", "array"])) if elements is None else "list"
    if kind == "empty":
        return Model([], lambda sc, rdd: sc.emptyRDD(), "emptyRDD()")
    if kind == "range":
        data: Any = range(draw(small), draw(st.integers(-3, 12)), draw(st.integers(1, 3)))
    elif kind == "array" and numpy is not None:
        data = numpy.array(draw(st.lists(small, max_size=8)), dtype=draw(st.sampled_from(["int64", "float32"])))
    else:
        data = draw(st.lists(draw(st.sampled_from(kinds)) if elements is None else elements, max_size=10))
    parts = evenly(data, slices) if kind == "range" else in_batches(data, slices)
    return Model(parts, lambda sc, rdd: sc.parallelize(data, slices), f"parallelize({data!r}, {slices})")


def hashable(x: Any) -> bool:
    try:
        portable_hash(x)
    except TypeError:
        return False
    return True


def all_hashable(model: Model) -> bool:
    return all(map(hashable, model.elements))


def all_pairs(model: Model) -> bool:
    return all(type(x) is tuple and len(x) == 2 and hashable(x[0]) for x in model.elements)


ORDER = lambda x: (type(x).__name__, repr(x))

# ------------------------------------------------------------------------------------------- operations

OPERATIONS: list[tuple[Callable[[Model], bool], Callable[[Any, Model], Model]]] = []


def operation(wants: Callable[[Model], bool] = lambda model: True) -> Any:
    def register(function: Callable[[Any, Model], Model]) -> Callable[[Any, Model], Model]:
        OPERATIONS.append((wants, function))
        return function

    return register


def other_input(draw: Any, model: Model, elements: Any = None) -> Model:
    """A second RDD: the same, a fresh one, or a fresh one that is partitioned alike."""
    which = draw(st.sampled_from(["same", "fresh", "alike", "alike"]))
    if which == "same" and len(model.elements) <= 30:
        return model
    fresh = draw(sources(elements))
    if (
        which == "alike"
        and model.partitioner is not None
        and type(model.partitioner) is Partitioner
        and all_pairs(fresh)
    ):
        return partition_by(fresh, model.partitioner)
    return fresh


@operation()
def map_(draw: Any, m: Model) -> Model:
    name, f = draw(
        st.sampled_from(
            [
                ("repr", lambda x: repr(x)),
                ("pair", lambda x: (x, 1)),
                ("key 1.0", lambda x: (1.0 if x == 1 else x, repr(x))),
                ("by length", lambda x: (len(repr(x)), x)),
                ("constant", lambda x: None),
            ]
        )
    )
    return one(m, f"map({name})", [list(map(f, p)) for p in m.parts], lambda rdd: rdd.map(f))


@operation(lambda m: len(m.elements) < 60)
def flat_map(draw: Any, m: Model) -> Model:
    name, f = draw(
        st.sampled_from(
            [
                ("twice", lambda x: [x, x]),
                ("none", lambda x: ()),
                ("some", lambda x: (x for _ in range(len(repr(x)) % 3))),
            ]
        )
    )
    return one(m, f"flatMap({name})", [[y for x in p for y in f(x)] for p in m.parts], lambda rdd: rdd.flatMap(f))


@operation()
def filter_(draw: Any, m: Model) -> Model:
    k = draw(st.integers(0, 2))
    f = lambda x: len(repr(x)) % 3 != k
    parts = [list(filter(f, p)) for p in m.parts]
    return one(m, f"filter({k})", parts, lambda rdd: rdd.filter(f), m.partitioner)


@operation()
def map_partitions(draw: Any, m: Model) -> Model:
    name, f = draw(
        st.sampled_from(
            [
                ("reversed", lambda it: reversed(list(it))),
                ("length", lambda it: [sum(1 for _ in it)]),
                ("first", lambda it: itertools.islice(it, 1)),
                ("nothing", lambda it: []),
                ("generator", lambda it: (x for x in it)),
            ]
        )
    )
    parts = [list(f(iter(p))) for p in m.parts]
    return one(m, f"mapPartitions({name})", parts, lambda rdd: rdd.mapPartitions(f))


@operation()
def map_partitions_with_index(draw: Any, m: Model) -> Model:
    f = lambda i, it: ((i, x) for x in it)
    parts = [list(f(i, iter(p))) for i, p in enumerate(m.parts)]
    return one(m, "mapPartitionsWithIndex()", parts, lambda rdd: rdd.mapPartitionsWithIndex(f))


@operation()
def glom(draw: Any, m: Model) -> Model:
    return one(m, "glom().map(tuple)", [[tuple(p)] for p in m.parts], lambda rdd: rdd.glom().map(tuple))


@operation()
def zip_with_index(draw: Any, m: Model) -> Model:
    n = itertools.count()
    return one(m, "zipWithIndex()", [[(x, next(n)) for x in p] for p in m.parts], lambda rdd: rdd.zipWithIndex())


@operation()
def key_by(draw: Any, m: Model) -> Model:
    f = lambda x: len(repr(x)) % 4
    return one(m, "keyBy()", [[(f(x), x) for x in p] for p in m.parts], lambda rdd: rdd.keyBy(f))


@operation(all_pairs)
def keys(draw: Any, m: Model) -> Model:
    return one(m, "keys()", [[k for k, _ in p] for p in m.parts], lambda rdd: rdd.keys())


@operation(all_pairs)
def values(draw: Any, m: Model) -> Model:
    return one(m, "values()", [[v for _, v in p] for p in m.parts], lambda rdd: rdd.values())


@operation(all_pairs)
def map_values(draw: Any, m: Model) -> Model:
    f = lambda v: len(repr(v))
    parts = [[(k, f(v)) for k, v in p] for p in m.parts]
    return one(m, "mapValues()", parts, lambda rdd: rdd.mapValues(f), m.partitioner)


@operation(lambda m: all_pairs(m) and len(m.elements) < 60)
def flat_map_values(draw: Any, m: Model) -> Model:
    f = lambda v: [v] * (len(repr(v)) % 3)
    parts = [[(k, x) for k, v in p for x in f(v)] for p in m.parts]
    return one(m, "flatMapValues()", parts, lambda rdd: rdd.flatMapValues(f), m.partitioner)


@operation()
def coalesce(draw: Any, m: Model) -> Model:
    n = draw(st.integers(1, 6))
    many, few = len(m.parts), min(n, len(m.parts))
    parts = [list(itertools.chain.from_iterable(m.parts[i * many // few : (i + 1) * many // few])) for i in range(few)]
    return one(m, f"coalesce({n})", parts, lambda rdd: rdd.coalesce(n))


@operation()
def repartition(draw: Any, m: Model) -> Model:
    n = draw(st.integers(1, 6))
    parts: Partitions = [[] for _ in range(n)]
    for i, part in enumerate(m.parts):
        for j, x in enumerate(part):
            parts[(i + j) % n].append(x)
    if draw(st.booleans()):
        return one(m, f"coalesce({n}, True)", parts, lambda rdd: rdd.coalesce(n, True))
    return one(m, f"repartition({n})", parts, lambda rdd: rdd.repartition(n))


def partition_by(m: Model, partitioner: Partitioner) -> Model:
    n, func = partitioner.numPartitions, partitioner.partitionFunc
    text = f"partitionBy({n}{'' if func is portable_hash else ', length'})"
    return one(m, text, regrouped(m, partitioner), lambda rdd: rdd.partitionBy(n, func), partitioner)


LENGTH = lambda key: len(repr(key)) - 5


def a_partitioner(draw: Any, m: Model) -> tuple[int | None, Partitioner]:
    n = draw(st.one_of(st.none(), st.integers(1, 6)))
    return n, Partitioner(n or default_partitions(m), portable_hash)


@operation(all_pairs)
def partition_by_(draw: Any, m: Model) -> Model:
    n = draw(st.integers(1, 6))
    return partition_by(m, Partitioner(n, draw(st.sampled_from([portable_hash, LENGTH]))))


@operation(all_pairs)
def repartition_and_sort(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    ascending = draw(st.booleans())
    parts = [sorted(p, key=lambda kv: ORDER(kv[0]), reverse=not ascending) for p in regrouped(m, partitioner)]
    return one(
        m,
        f"repartitionAndSortWithinPartitions({n}, ascending={ascending})",
        parts,
        lambda rdd: rdd.repartitionAndSortWithinPartitions(n, ascending=ascending, keyfunc=ORDER),
        partitioner,
    )


def range_partitioned(
    m: Model, n: int | None, ascending: bool, key: Callable[[Any], Any]
) -> tuple[Partitions, Partitioner]:
    """As the sort does it when every key is in the sample."""
    n = n or default_partitions(m)
    sample = [key(x) for x in m.elements]
    bounds = bounds_from_samples(sample, n, ORDER) if n > 1 else []
    partitioner = RangePartitioner(bounds, ascending, fixed(ORDER)[0], n)
    pieces = shuffled(m.parts, partitioner, key)
    parts = [
        sorted(itertools.chain.from_iterable(p), key=lambda x: ORDER(key(x)), reverse=not ascending) for p in pieces
    ]
    assert list(itertools.chain.from_iterable(parts)) == sorted(
        m.elements, key=lambda x: ORDER(key(x)), reverse=not ascending
    )
    return parts, partitioner


def all_sampled(m: Model) -> bool:
    return all(len(p) <= 20 for p in m.parts)


@operation(lambda m: all_pairs(m) and all_sampled(m))
def sort_by_key(draw: Any, m: Model) -> Model:
    n, ascending = draw(st.one_of(st.none(), st.integers(1, 6))), draw(st.booleans())
    parts, partitioner = range_partitioned(m, n, ascending, operator.itemgetter(0))
    if m.partitioner == partitioner:
        parts = [sorted(p, key=lambda kv: ORDER(kv[0]), reverse=not ascending) for p in m.parts]
    text = f"sortByKey({ascending}, {n}, ORDER)"
    return one(m, text, parts, lambda rdd: rdd.sortByKey(ascending, n, ORDER), partitioner)


@operation(all_sampled)
def sort_by(draw: Any, m: Model) -> Model:
    n, ascending = draw(st.one_of(st.none(), st.integers(1, 6))), draw(st.booleans())
    keyed = [[(ORDER(x), x) for x in p] for p in m.parts]
    source = Model(keyed, m.make, "")
    wanted = n or default_partitions(source)
    bounds = bounds_from_samples([k for k, _ in source.elements], wanted) if wanted > 1 else []
    partitioner = RangePartitioner(bounds, ascending, None, wanted)
    parts = [
        [x for _, x in sorted(itertools.chain.from_iterable(p), key=lambda kx: kx[0], reverse=not ascending)]
        for p in shuffled(keyed, partitioner)
    ]
    assert list(itertools.chain.from_iterable(parts)) == sorted(m.elements, key=ORDER, reverse=not ascending)
    return one(m, f"sortBy(ORDER, {ascending}, {n})", parts, lambda rdd: rdd.sortBy(ORDER, ascending, n))


@operation(all_hashable)
def distinct(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    if m.partitioner == partitioner:  # equal elements have equal keys: they lie in one partition already
        parts = [list(dict.fromkeys(p)) for p in m.parts]
        return one(m, f"distinct({n})", parts, lambda rdd: rdd.distinct(n), partitioner)
    pieces = shuffled(m.parts, partitioner, lambda x: x)
    parts = [list(dict.fromkeys(itertools.chain(*some))) for some in pieces]
    return one(m, f"distinct({n})", parts, lambda rdd: rdd.distinct(n))


def by_key(m: Model, n: Any, partitioner: Partitioner, text: str, functions: tuple[Any, Any, Any], make: Any) -> Model:
    return one(m, f"{text}({n})", combined(m, partitioner, *functions), make, partitioner)


@operation(all_pairs)
def reduce_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    f = lambda a, b: f"({a} {b})"
    return by_key(m, n, partitioner, "reduceByKey", (lambda v: v, f, f), lambda rdd: rdd.reduceByKey(f, n))


@operation(all_pairs)
def sum_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    strings = map_values_to_strings(m)
    functions = (lambda v: v, operator.add, operator.add)
    return by_key(strings, n, partitioner, "reduceByKey add", functions, lambda rdd: rdd.reduceByKey(operator.add, n))


def map_values_to_strings(m: Model) -> Model:
    parts = [[(k, repr(v)) for k, v in p] for p in m.parts]
    return one(m, "mapValues(repr)", parts, lambda rdd: rdd.mapValues(repr), m.partitioner)


@operation(all_pairs)
def fold_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    f = lambda a, b: f"({a} {b})"
    functions = (lambda v: f("0", v), f, f)
    return by_key(m, n, partitioner, "foldByKey", functions, lambda rdd: rdd.foldByKey("0", f, n))


@operation(all_pairs)
def aggregate_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    add = lambda a, v: a.append(v) or a
    join = lambda a, b: a + ["|"] + b
    functions = (lambda v: [v], add, join)
    made = by_key(m, n, partitioner, "aggregateByKey", functions, lambda rdd: rdd.aggregateByKey([], add, join, n))
    return one(
        made,
        "mapValues(tuple)",
        [[(k, tuple(v)) for k, v in p] for p in made.parts],
        lambda rdd: rdd.mapValues(tuple),
        partitioner,
    )


@operation(all_pairs)
def combine_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    functions: Any = (lambda v: (v,), lambda c, v: (*c, v), lambda c, d: (c, d))
    return by_key(m, n, partitioner, "combineByKey", functions, lambda rdd: rdd.combineByKey(*functions, n))


@operation(all_pairs)
def group_by_key(draw: Any, m: Model) -> Model:
    n, partitioner = a_partitioner(draw, m)
    parts = []
    for records in regrouped(m, partitioner):
        groups: dict[Any, list[Any]] = {}
        for k, v in records:
            groups.setdefault(k, []).append(v)
        parts.append([(k, tuple(vs)) for k, vs in groups.items()])
    return one(m, f"groupByKey({n})", parts, lambda rdd: rdd.groupByKey(n).mapValues(tuple), partitioner)


@operation()
def union(draw: Any, m: Model) -> Model:
    other = other_input(draw, m)
    if m.partitioner is not None and m.partitioner == other.partitioner:
        parts = [a + b for a, b in zip(m.parts, other.parts, strict=True)]
        return two(m, other, "union", parts, lambda a, b: a.union(b), m.partitioner)
    return two(m, other, "union", m.parts + other.parts, lambda a, b: a + b)


@operation(lambda m: len(m.elements) < 20 and len(m.parts) < 5)
def cartesian(draw: Any, m: Model) -> Model:
    other = draw(st.one_of(st.just(m), sources(small)))
    parts = [[(a, b) for a in left for b in right] for left in m.parts for right in other.parts]
    return two(m, other, "cartesian", parts, lambda a, b: a.cartesian(b))


@operation()
def zip_(draw: Any, m: Model) -> Model:
    other = map_(draw, m)
    parts = [list(zip(a, b, strict=True)) for a, b in zip(m.parts, other.parts, strict=True)]
    return two(m, other, "zip", parts, lambda a, b: a.zip(b))


@operation()
def zip_partitions(draw: Any, m: Model) -> Model:
    other = filter_(draw, m)
    parts = [[(len(a), len(b))] for a, b in zip(m.parts, other.parts, strict=True)]
    f = lambda a, b: [(len(list(a)), len(list(b)))]
    return two(m, other, "zipPartitions", parts, lambda a, b: a.zipPartitions(b, f))


def set_operation(draw: Any, m: Model, text: str, keep: Callable[[Any], int], make: Any) -> Model:
    other = other_input(draw, m)
    if not all_hashable(other):
        other = m
    with_none = [Model([[(x, None) for x in p] for p in model.parts], model.make, "") for model in (m, other)]
    partitioner = Partitioner(default_partitions(*with_none))
    parts = [[k for k, lists in p for _ in range(keep(lists))] for p in cogrouped(with_none, partitioner)]
    return two(m, other, text, parts, make)


@operation(all_hashable)
def intersection(draw: Any, m: Model) -> Model:
    return set_operation(draw, m, "intersection", lambda vw: bool(vw[0] and vw[1]), lambda a, b: a.intersection(b))


@operation(all_hashable)
def subtract(draw: Any, m: Model) -> Model:
    return set_operation(draw, m, "subtract", lambda vw: 0 if vw[1] else len(vw[0]), lambda a, b: a.subtract(b))


NOTHING = [None]
Records = list[Any]


def of(key: Any, records: Records) -> list[Any]:
    """The values that some records have for a key."""
    return [v for k, v in records if k == key]


STREAMED: dict[str, Callable[[Records, Records], Records]] = {
    "join": lambda left, right: [(k, (v, w)) for k, v in left for w in of(k, right)],
    "leftOuterJoin": lambda left, right: [(k, (v, w)) for k, v in left for w in of(k, right) or NOTHING],
    "rightOuterJoin": lambda left, right: [(k, (v, w)) for k, w in right for v in of(k, left) or NOTHING],
}
JOINS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "fullOuterJoin": lambda vs, ws: itertools.product(vs or NOTHING, ws or NOTHING),
    "cogroup": lambda vs, ws: [(tuple(vs), tuple(ws))],
    "subtractByKey": lambda vs, ws: [] if ws else vs,
}


@operation(lambda m: all_pairs(m) and len(m.elements) < 30)
def join(draw: Any, m: Model) -> Model:
    other = other_input(draw, m, draw(st.sampled_from([pairs, st.tuples(small, small)])))
    if not all_pairs(other):
        other = m
    name = draw(st.sampled_from([*STREAMED, *JOINS]))
    n = draw(st.one_of(st.none(), st.integers(1, 6)))
    partitioner = Partitioner(n or default_partitions(m, other))
    if name in STREAMED:
        inputs = zip(regrouped(m, partitioner), regrouped(other, partitioner), strict=True)
        parts = [STREAMED[name](left, right) for left, right in inputs]
    else:
        groups = cogrouped([m, other], partitioner)
        parts = [[(k, pair) for k, lists in p for pair in JOINS[name](*lists)] for p in groups]

    def make(a: RDD, b: RDD) -> RDD:
        made = getattr(a, name)(b, n)
        return made.mapValues(lambda lists: tuple(map(tuple, lists))) if name == "cogroup" else made

    return two(m, other, name, parts, make, partitioner)


LEVELS = [
    StorageLevel.MEMORY_ONLY,
    StorageLevel.MEMORY_AND_DISK,
    StorageLevel.DISK_ONLY,
    StorageLevel.MEMORY_AND_DISK_2,
    StorageLevel.MEMORY_AND_DISK_DESER,
]


@st.composite
def pipelines(draw: Any, most: int = 6) -> Model:
    model = draw(sources())
    for _ in range(draw(st.integers(0, most))):
        fitting = [function for wants, function in OPERATIONS if wants(model)]
        chosen = draw(st.sampled_from(fitting))(draw, model)
        if len(chosen.parts) > 30 or len(repr(chosen.parts)) > 10_000:
            continue
        model = chosen
        if draw(st.integers(0, 5)) == 0:
            model.level = draw(st.sampled_from(LEVELS))
    return model


# ------------------------------------------------------------------------------------------- actions

ACTIONS: list[tuple[Callable[[Model], bool], Callable[..., Any]]] = []


def action(wants: Callable[[Model], bool] = lambda model: True) -> Any:
    def register(function: Any) -> Any:
        ACTIONS.append((wants, function))
        return function

    return register


async def outcome(awaitable: Any) -> Any:
    """The result, or the error's type and text."""
    try:
        return await awaitable
    except EmptyRDDError as error:
        return ("ValueError", str(error))


def numeric(m: Model) -> bool:
    return all(isinstance(x, (int, float)) and abs(x) < 1e6 for x in m.elements)


@action()
async def collect(rdd: RDD, m: Model) -> None:
    same(await rdd.collect(), m.elements)


@action()
async def count(rdd: RDD, m: Model) -> None:
    same(await rdd.count(), len(m.elements))
    same(await rdd.isEmpty(), not m.elements)


@action()
async def take(rdd: RDD, m: Model) -> None:
    for n in (0, 1, 3, 1000):
        same(await rdd.take(n), m.elements[:n])
    same(await outcome(rdd.first()), m.elements[0] if m.elements else ("ValueError", "RDD is empty"))


@action()
async def ordered(rdd: RDD, m: Model) -> None:
    for n in (0, 1, 4):
        same(await rdd.takeOrdered(n, ORDER), sorted(m.elements, key=ORDER)[:n])
        same(await rdd.top(n, ORDER), sorted(m.elements, key=ORDER, reverse=True)[:n])


@action()
async def reduce_(rdd: RDD, m: Model) -> None:
    f = lambda a, b: f"({a} {b})"
    found = [functools.reduce(f, p) for p in m.parts if p]
    wanted = functools.reduce(f, found) if found else ("ValueError", "Can not reduce() empty RDD")
    same(await outcome(rdd.reduce(f)), wanted)
    wanted = (
        functools.reduce(operator.add, map(repr, m.elements)) if found else ("ValueError", "Cannot reduce empty RDD.")
    )
    # A tree joins partitions in another order: the same letters.
    got = await outcome(rdd.map(repr).treeReduce(operator.add))
    same(sorted(got), sorted(wanted))


@action()
async def fold_(rdd: RDD, m: Model) -> None:
    f = lambda a, b: f"({a} {b})"
    same(await rdd.fold("0", f), functools.reduce(f, [functools.reduce(f, p, "0") for p in m.parts], "0"))


@action()
async def aggregate(rdd: RDD, m: Model) -> None:
    add = lambda a, x: a.append(x) or a
    join = lambda a, b: a.extend(b) or a
    same(await rdd.aggregate([], add, join), m.elements)
    same(sorted(map(repr, await rdd.treeAggregate([], add, join))), sorted(map(repr, m.elements)))


@action()
async def counted(rdd: RDD, m: Model) -> None:
    if all_hashable(m):
        same(dict(await rdd.countByValue()), dict(Counter(m.elements)))


@action(all_pairs)
async def pair_actions(rdd: RDD, m: Model) -> None:
    same(dict(await rdd.countByKey()), dict(Counter(k for k, _ in m.elements)))
    same(await rdd.collectAsMap(), dict(m.elements))
    keys = dict(m.elements)
    comparable = numpy is None or not any(isinstance(k, numpy.generic) for k in keys)  # to an empty tuple
    for key in [*keys][:3] if comparable else []:
        same(await rdd.lookup(key), [v for k, v in m.elements if k == key])
    f = lambda a, b: f"({a} {b})"
    locally: dict[Any, Any] = {}
    for part in m.parts:
        reduced: dict[Any, Any] = {}
        for k, v in part:
            reduced[k] = f(reduced[k], v) if k in reduced else v
        for k, v in reduced.items():
            locally[k] = f(locally[k], v) if k in locally else v
    same(await rdd.reduceByKeyLocally(f), locally)


@action(numeric)
async def numbers(rdd: RDD, m: Model) -> None:
    same(await rdd.sum(), sum([sum(p) for p in m.parts]))
    stats = functools.reduce(StatCounter.mergeStats, map(StatCounter, m.parts), StatCounter())
    wanted = str(stats) if m.parts else str(("ValueError", "Can not reduce() empty RDD"))
    same(str(await outcome(rdd.stats())), wanted)
    if m.elements:
        same(await rdd.max(), functools.reduce(max, [functools.reduce(max, p) for p in m.parts if p]))
        same(await rdd.min(), functools.reduce(min, [functools.reduce(min, p) for p in m.parts if p]))
    bounds = [-2, 0, 0.5, 3]
    counts = [sum(a <= x < b for x in m.elements) for a, b in itertools.pairwise(bounds)]
    counts[-1] += sum(x == bounds[-1] for x in m.elements)
    same(await rdd.histogram(bounds), (bounds, counts))


@action()
async def iterated(rdd: RDD, m: Model) -> None:
    same([x async for x in rdd], m.elements)
    same([x async for x in await rdd.toLocalIterator()], m.elements)
    same([x async for x in await rdd.toLocalIterator(prefetchPartitions=True)], m.elements)


def same(actual: Any, wanted: Any) -> None:
    """Equal, and of the same types: 1, 1.0 and True are equal as well."""
    assert repr(actual) == repr(wanted)


# ------------------------------------------------------------------------------------------- the tests


def build(sc: SparkContext, model: Model) -> tuple[RDD, list[RDD]]:
    """The RDD of a model, and those that are persisted."""
    made: dict[int, RDD] = {}
    persisted = []

    def rdd(m: Model) -> RDD:
        if id(m) not in made:
            made[id(m)] = m.make(sc, rdd)
            if m.level is not None:
                persisted.append(made[id(m)].persist(m.level))
        return made[id(m)]

    return rdd(model), persisted


async def check(sc: SparkContext, model: Model, actions: list[Callable[..., Any]]) -> None:
    rdd, persisted = build(sc, model)
    partitions = await rdd.glom().collect()
    same(partitions, model.parts)
    same(await rdd.getNumPartitions(), len(model.parts))
    assert await rdd.partitioner() == model.partitioner
    for act in actions:
        await act(rdd, model)
    for kept in persisted:
        await kept.unpersist()


@pytest.mark.parametrize("master", MASTERS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pipelines_give_what_plain_python_gives(data, contexts, master):
    model = data.draw(pipelines())
    fitting = [function for wants, function in ACTIONS if wants(model)]
    actions = data.draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2, unique=True))
    running = contexts(master, data.draw(st.sampled_from(["asyncio", "trio"])))
    running.run(check, running.context, model, actions)


@pytest.mark.parametrize("master", MASTERS)
@pytest.mark.parametrize("function", [f for _, f in OPERATIONS], ids=lambda f: f.__name__.strip("_"))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_each_operation(data, contexts, master, function):
    """So that none is left out by chance."""
    wants = next(wants for wants, f in OPERATIONS if f is function)
    elements = data.draw(st.sampled_from(kinds))
    model = data.draw(sources(elements).filter(wants))
    model = function(data.draw, model)
    running = contexts(master, "asyncio")
    running.run(check, running.context, model, [])


@pytest.mark.parametrize("master", MASTERS)
def test_each_action_without_partitions(contexts, master):
    nothing = Model([], lambda sc, rdd: sc.emptyRDD(), "emptyRDD()")
    running = contexts(master, "asyncio")
    running.run(check, running.context, nothing, [function for wants, function in ACTIONS if wants(nothing)])

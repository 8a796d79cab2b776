"""The two faces are one: what the asynchronous one has, the blocking one has as well, and says the same."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import gc
import importlib
import inspect
import multiprocessing
import os
import re
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import asparkle
import asparkle.aio
import asparkle.context
import asparkle.rdd
from asparkle import SparkConf, SparkContext
from asparkle.core.conf import system_properties
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ContextError,
    ContextStopped,
    DeadlockError,
    ForkedContextError,
    JobFailed,
    NestedContextError,
)

PAIRS = [(asparkle.aio.RDD, asparkle.RDD), (asparkle.aio.SparkContext, asparkle.SparkContext)]
WITH_EXAMPLES = [
    "asparkle.blocking",
    "asparkle.context",
    "asparkle.eventstreams",
    "asparkle.handles",
    "asparkle.rdd",
    *(
        f"asparkle.core.{name}"
        for name in [
            *"accumulators codecs conf coroutines events hashing inheritablethread".split(),
            *"partitioner remotefiles resourceprofiles resources statcounter status storagelevel taskcontext".split(),
        ]
    ),
]
BECOME_PROPERTIES = {"partitioner"}


@pytest.fixture
def sc():
    with SparkContext("threads[2]") as context:
        yield context


def test_a_union_takes_what_the_asynchronous_one_takes(sc):
    assert sc.union(sc.parallelize([i]) for i in range(3)).collect() == [0, 1, 2]
    for wrong in (None, 5, sc.parallelize([1]), [5], "ab"):
        with pytest.raises(ArgumentTypeError, match="^union: rdds"):
            sc.union(wrong)


# ------------------------------------------------------------------------------------- the same names


def public(kind: type) -> dict[str, object]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def function_of(member: object) -> object:
    if isinstance(member, property):
        return member.fget
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return member


def test_the_modules_have_the_same_names():
    assert set(asparkle.aio.__all__) == set(asparkle.__all__) - {"__version__"}
    for name in asparkle.__all__:
        assert getattr(asparkle, name) is not None


@pytest.mark.parametrize(("asynchronous", "blocking"), PAIRS, ids=["RDD", "SparkContext"])
def test_every_public_name_is_in_both(asynchronous, blocking):
    assert set(public(asynchronous)) - set(public(blocking)) == set()
    of_the_process = {"getOrCreate", "setSystemProperty", "getSystemProperty", "PACKAGE_EXTENSIONS"}
    of_sql = {"toDF"}  # once that was imported
    assert set(public(blocking)) - set(public(asynchronous)) <= of_the_process | of_sql


def members():
    for asynchronous, blocking in PAIRS:
        for name, member in public(asynchronous).items():
            yield pytest.param(member, public(blocking).get(name), id=f"{asynchronous.__name__}.{name}")


@pytest.mark.parametrize(("asynchronous", "blocking"), list(members()))
def test_signatures_and_docstrings_are_the_same(asynchronous, blocking):
    one, other = function_of(asynchronous), function_of(blocking)
    assert isinstance(asynchronous, property) or isinstance(blocking, property) == (one.__name__ in BECOME_PROPERTIES)
    mine, theirs = inspect.signature(one), inspect.signature(other)
    if one.__name__ == "submit":  # what awaits there, blocks here
        awaits, blocks = mine.parameters["action"].annotation, theirs.parameters["action"].annotation
        assert blocks == awaits.replace("Awaitable[T]", "T")
    else:
        assert list(map(described, theirs.parameters.values())) == list(map(described, mine.parameters.values()))
    assert not inspect.iscoroutinefunction(other)
    assert inspect.getdoc(other)
    if one.__name__ != "stop":
        wanted = inspect.getdoc(one).replace("await ", "").replace(".partitioner()", ".partitioner")
        wanted = wanted.replace("async for event in", "for event in")
        assert inspect.getdoc(other) == wanted


def described(parameter: inspect.Parameter) -> object:
    return parameter.name, parameter.kind, parameter.default, parameter.annotation


@pytest.mark.parametrize("kind", [asparkle.aio.RDD, asparkle.aio.SparkContext, asparkle.SparkContext])
def test_every_operation_has_an_example(kind):
    for name, member in public(kind).items():
        doc = inspect.getdoc(function_of(member)) or ""
        if isinstance(member, tuple):
            continue  # a constant
        assert ">>> " in doc or doc.startswith("Raises NeedsJVM"), f"{kind.__name__}.{name} has no example"


def examples():
    """The examples of the blocking face, and of all that has but one face."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in WITH_EXAMPLES:
        for test in finder.find(importlib.import_module(name)):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", list(examples()))
def test_the_examples_are_right(test):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    test.globs |= {name: getattr(asparkle, name) for name in ("SparkConf", "SparkContext", "StorageLevel")}
    if any(re.search(r"\bsc\b", example.source) for example in test.examples):
        with SparkContext("threads[2]") as test.globs["sc"]:
            runner.run(test)
    else:
        runner.run(test)
    system_properties.clear()
    assert runner.summarize(verbose=False).failed == 0


def test_no_module_with_examples_is_left_out():
    package = Path(asparkle.__file__).parent
    with_some = {
        ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in package.rglob("*.py")
        if re.search(r"^ *>>> ", file.read_text(), re.MULTILINE)
    }
    with_some -= {name for name in with_some if name.startswith("asparkle.sql.")}  # tests/sql runs these
    assert with_some - {"asparkle.core.rdd", "asparkle.core.context"} == set(WITH_EXAMPLES)  # which await


# ------------------------------------------------------------------------------------- where it may be used


def test_transformations_keep_the_face(sc):
    rdd = sc.parallelize([(1, 2)], 2)
    for made in (
        rdd.map(str),
        rdd + rdd,
        rdd.union(rdd),
        rdd.join(rdd),
        sc.union([rdd, rdd]),
        rdd.zipWithIndex(),
    ):
        assert type(made) is asparkle.RDD
        assert made.context is sc
    assert rdd.cache() is rdd
    assert rdd.setName("x") is rdd
    assert rdd.unpersist() is rdd
    with pytest.raises(TypeError):
        rdd + 5
    with pytest.raises(TypeError):
        rdd.union([1])


def test_it_works_in_a_thread_with_a_running_loop(sc):
    """As in a notebook."""

    async def cell():
        return sc.parallelize(range(4), 2).sum(), list(sc.parallelize(range(3)).toLocalIterator())

    assert asyncio.run(cell()) == (6, [0, 1, 2])


def test_it_works_from_many_threads_at_once(sc):
    results = {}

    def work(i):
        sc.setLocalProperty("number", str(i))
        rdd = sc.parallelize([i], 1)
        properties = rdd.map(lambda x: asparkle.TaskContext.get().getLocalProperty("number"))
        results[i] = (rdd.sum(), properties.first())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: (i, str(i)) for i in range(8)}


def test_a_call_on_the_contexts_own_loop_would_never_end(sc):
    rdd = sc.parallelize([1])

    async def on_the_loop():
        return rdd.count()

    with pytest.raises(DeadlockError):
        sc._portal.call(on_the_loop)
    assert rdd.count() == 1


def test_an_rdd_of_the_other_face_is_called_so(sc):
    async def mixed():
        async with asparkle.aio.SparkContext("inline") as other:
            ours, theirs = sc.parallelize([1]), other.parallelize([1])
            for call, given, face, expected in [
                (lambda: theirs.union(ours), ours, "asparkle", "asparkle.aio"),
                (lambda: theirs.join(ours), ours, "asparkle", "asparkle.aio"),
                (lambda: other.union([ours]), ours, "asparkle", "asparkle.aio"),
                (lambda: ours.union(theirs), theirs, "asparkle.aio", "asparkle"),
                (lambda: ours.zip(theirs), theirs, "asparkle.aio", "asparkle"),
                (lambda: sc.union([theirs]), theirs, "asparkle.aio", "asparkle"),
            ]:
                with pytest.raises(ArgumentTypeError) as error:
                    call()
                told = f"{given!r}: it is an RDD of {face}, not of {expected}; make both with one context"
                assert str(error.value).endswith(told)

    asyncio.run(mixed())


def test_a_call_in_a_task_is_refused(sc):
    rdd = sc.parallelize([1])
    for function in (lambda x: rdd.count(), lambda x: sc.parallelize([x]), lambda x: SparkContext("inline")):
        with pytest.raises((NestedContextError, JobFailed)) as error:
            rdd.map(function).collect()
        assert isinstance(error.value, NestedContextError) or isinstance(error.value.__cause__, NestedContextError)


def nested():
    """Of this module, so that tasks in this process find the very objects, unpickled by name."""
    return RDD.count()


def test_a_call_in_a_task_by_way_of_a_module_is_refused(sc):
    global RDD
    RDD = sc.parallelize([1])
    with pytest.raises((NestedContextError, JobFailed)) as error:
        sc.parallelize([1], 1).map(lambda x: nested()).collect()
    assert isinstance(error.value, NestedContextError) or isinstance(error.value.__cause__, NestedContextError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told_so(sc):
    rdd = sc.parallelize([1, 2])
    assert rdd.count() == 2
    inbox, outbox = multiprocessing.Pipe(False)
    pid = os.fork()
    if pid == 0:
        try:
            for call in (rdd.count, lambda: sc.parallelize([1]).collect(), lambda: sc.broadcast(1)):
                try:
                    call()
                    outbox.send("no error")
                except ForkedContextError as error:
                    outbox.send(str(error))
            sc.stop()
            outbox.send("stopped")
        finally:
            os._exit(0)
    said = [inbox.recv() for _ in range(4)]
    os.waitpid(pid, 0)
    assert all("forked child" in line for line in said[:3]), said
    assert said[3] == "stopped"
    assert rdd.count() == 2


# ------------------------------------------------------------------------------------- one at a time


def test_one_context_at_a_time():
    with SparkContext("inline") as sc:
        with pytest.raises(ContextError, match="active context already"):
            SparkContext("inline")
        assert SparkContext.getOrCreate() is sc
    with SparkContext("inline") as sc:
        assert sc.parallelize([1]).count() == 1


@pytest.mark.parametrize("kind", [list, iter, lambda paths: paths[0]], ids=["list", "iterator", "str"])
def test_files_for_python_can_be_imported_in_tasks(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "brought.zip", "w") as archive:
        archive.writestr("brought_in_a_zip.py", "def double(x):\n    return 2 * x\n")

    def double(x):
        import brought_in_a_zip

        return brought_in_a_zip.double(x)

    before = list(sys.path)
    with SparkContext("processes[2]", pyFiles=kind([str(tmp_path / "brought.zip")])) as sc:
        assert sc.parallelize([1, 2]).map(double).collect() == [2, 4]
    assert sys.path == before


def test_a_context_whose_files_for_python_are_missing_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.py"):
        SparkContext("inline", pyFiles=[str(tmp_path / "none.py")])
    with SparkContext("inline", "app", "/opt/spark", [], {}, 10) as sc:  # nothing was left running
        assert sc.parallelize([1]).count() == 1


def test_a_serializer_is_refused_at_once():
    with pytest.raises(ArgumentError, match="serializer = 'marshal': .* asparkle.serializer names"):
        SparkContext("inline", serializer="marshal")


def test_tasks_import_from_the_drivers_path(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("module_in_a_zip.py", "def double(x):\n    return 2 * x\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib.zip"), *sys.path])

    def double(x):
        import module_in_a_zip

        return module_in_a_zip.double(x)

    with SparkContext("processes[2]") as sc:
        assert sc.parallelize([1, 2]).map(double).collect() == [2, 4]


def test_getorcreate_makes_one():
    sc = SparkContext.getOrCreate(SparkConf().setMaster("threads[1]").setAppName("mine"))
    try:
        assert SparkContext.getOrCreate() is sc
        assert (sc.master, sc.appName) == ("threads[1]", "mine")
        assert sc.parallelize(range(3)).sum() == 3
    finally:
        sc.stop()


def test_a_stopped_context_says_so():
    sc = SparkContext("inline")
    rdd = sc.parallelize([1])
    sc.stop()
    sc.stop()
    for call in (
        rdd.count,
        lambda: sc.parallelize([1]).collect(),
        lambda: sc.broadcast(1),
        rdd.getNumPartitions,
    ):
        with pytest.raises(ContextStopped):
            call()


def test_a_context_that_nobody_has_any_more_stops():
    def use():
        sc = SparkContext("threads[1]")
        assert sc.parallelize([1]).map(lambda x: x + 1).collect() == [2]
        with contextlib.suppress(JobFailed):
            sc.parallelize([1]).map(lambda x: 1 / 0).collect()
        return sc._portal._thread

    thread = use()
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    with SparkContext("inline") as sc:
        assert sc.parallelize([1]).count() == 1


def test_an_rdd_keeps_its_context():
    rdd = SparkContext("inline").parallelize([1, 2])
    gc.collect()
    assert rdd.sum() == 3
    rdd.context.stop()


def test_a_failing_block_stops_its_context():
    with pytest.raises(KeyError), SparkContext("inline") as sc:
        raise KeyError
    with pytest.raises(ContextStopped):
        sc.parallelize([1]).count()


def test_interactive_iteration_may_be_left(sc):
    elements = sc.parallelize(range(100), 50).toLocalIterator()
    assert next(elements) == 0
    del elements
    gc.collect()
    assert sc.parallelize([1]).count() == 1


def test_many_aio_contexts_at_once():
    async def main():
        async with asparkle.aio.SparkContext("inline") as one, asparkle.aio.SparkContext("threads[2]") as two:
            return await one.parallelize([1]).count(), await two.parallelize([1, 2]).count()

    assert asyncio.run(main()) == (1, 2)


def test_a_dict_is_no_conf():
    with pytest.raises(ArgumentTypeError, match=r"SparkContext: conf = .* of type dict: expected a SparkConf, such as"):
        SparkContext(conf={"spark.master": "local"})

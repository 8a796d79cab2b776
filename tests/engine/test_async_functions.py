"""Coroutine functions in tasks: the results are those of plain functions, and what goes wrong stays bounded."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import until

from asparkle.aio import FailedElement, SparkConf, SparkContext, TaskContext, WorkerResource
from asparkle.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ContextError,
    JobFailed,
    UserFunctionError,
)


def nap(x: int) -> float:
    """Short, and different for each element."""
    return (x * 7919 % 13) / 3000


async def square(x):
    await asyncio.sleep(nap(x))
    return x * x


async def is_odd(x):
    await asyncio.sleep(nap(x))
    return x % 2


async def up_to(x):
    await asyncio.sleep(nap(x))
    return range(x % 4)


async def count_to(x):
    for i in range(x % 4):
        await asyncio.sleep(0)
        yield i


async def invert(x):
    await asyncio.sleep(nap(x))
    return 1 / x


async def in_pairs(elements):
    last = None
    async for x in elements:
        yield last, x
        last = x


async def total(elements):
    return [sum([x async for x in elements])]


# ---------------------------------------------------------------------------------------------- results


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.integers(0, 99), max_size=60),
    slices=st.integers(1, 4),
    concurrency=st.integers(1, 20),
    ordered=st.booleans(),
)
def test_the_results_are_those_of_plain_functions(running, data, slices, concurrency, ordered):
    async def check(sc: SparkContext) -> None:
        rdd = sc.parallelize(data, slices)
        order = list if ordered else sorted
        how = {"concurrency": concurrency, "ordered": ordered}
        assert order(await rdd.map(square, **how).collect()) == order([x * x for x in data])
        assert order(await rdd.filter(is_odd, **how).collect()) == order([x for x in data if x % 2])
        expected = order([i for x in data for i in range(x % 4)])
        assert order(await rdd.flatMap(up_to, **how).collect()) == expected
        assert order(await rdd.flatMap(count_to, **how).collect()) == expected
        pairs = await rdd.map(lambda x: (x, x)).mapValues(square, **how).collect()
        assert order(pairs) == order([(x, x * x) for x in data])
        assert order(await rdd.map(square, **how).map(square, **how).collect()) == order([x**4 for x in data])
        plain = [list(xs) for xs in await rdd.glom().collect()]
        assert await rdd.mapPartitions(total).collect() == [sum(xs) for xs in plain]
        assert await rdd.mapPartitions(in_pairs).collect() == [
            pair for xs in plain for pair in zip([None, *xs], xs, strict=False)
        ]

    running.run(check, running.context)


async def test_an_index_comes_with_a_partition(sc):
    async def numbered(index, elements):
        async for x in elements:
            yield index, x

    rdd = sc.parallelize(range(4), 2).mapPartitionsWithIndex(numbered)
    assert await rdd.collect() == [(0, 0), (0, 1), (1, 2), (1, 3)]


async def test_what_is_done_for_its_effect_is_done_once_for_each(sc, tmp_path):
    async def touch(x):
        (tmp_path / str(x)).touch(exist_ok=False)

    async def touch_partition(elements):
        names = [x async for x in elements]
        (tmp_path / f"{names}").touch(exist_ok=False)

    async def touch_each(elements):
        async for x in elements:
            (tmp_path / f"each {x}").touch(exist_ok=False)
            yield None

    rdd = sc.parallelize(range(4), 2)
    assert await rdd.foreach(touch) is None
    await rdd.foreachPartition(touch_partition)
    await rdd.foreachPartition(touch_each)
    assert {path.name for path in tmp_path.iterdir()} == {
        *"0123",
        "[0, 1]",
        "[2, 3]",
        *(f"each {i}" for i in range(4)),
    }


async def test_the_partitioner_is_kept_where_a_plain_function_keeps_it(sc):
    rdd = sc.parallelize([(1, 2), (3, 4)]).partitionBy(3)
    for derived in (rdd.mapValues(square), rdd.filter(invert_of_key), rdd.map(swap, preservesPartitioning=True)):
        assert await derived.partitioner() == await rdd.partitioner()
    assert await rdd.map(swap).partitioner() is None


async def invert_of_key(pair):
    return 1 / pair[0]


async def swap(pair):
    return pair[1], pair[0]


async def test_the_task_is_known_in_its_coroutines(sc):
    async def where(x):
        await asyncio.sleep(0.01)
        context = TaskContext.get()
        in_thread = await asyncio.to_thread(TaskContext.get)
        seen.add(1)
        return context.partitionId(), in_thread.partitionId(), context.getLocalProperty("colour")

    seen = sc.accumulator(0)
    sc.setLocalProperty("colour", "red")
    found = await sc.parallelize(range(8), 4).map(where).collect()
    sc.setLocalProperty("colour", None)
    assert found == [(i // 2, i // 2, "red") for i in range(8)]
    assert seen.value == 8


async def test_objects_with_an_asynchronous_call_and_partial_functions_do_as_well(sc):
    import functools

    class Adder:
        async def __call__(self, x):
            return x + 1

        async def method(self, x):
            return x + 2

    async def add(x, y):
        return x + y

    rdd = sc.parallelize([1])
    assert await rdd.map(Adder()).collect() == [2]
    assert await rdd.map(Adder().method).collect() == [3]
    assert await rdd.map(functools.partial(add, 3)).collect() == [4]
    assert type((await rdd.map(lambda x: Adder).collect())[0]) is type


async def test_a_later_step_that_wants_little_cancels_what_it_does_not_want(sc, tmp_path):
    async def slow_after_the_first(x):
        if x:
            try:
                await asyncio.sleep(60)
            finally:
                (tmp_path / str(x)).touch()
        return x

    assert await sc.parallelize(range(100), 1).map(slow_after_the_first, concurrency=5).first() == 0
    assert {path.name for path in tmp_path.iterdir()} <= {str(x) for x in range(1, 20)}
    assert await sc.parallelize(range(3)).map(square).collect() == [0, 1, 4]  # the slot is free


async def test_an_iterator_that_the_garbage_collector_closes_holds_up_nobody(sc):
    """On whatever thread that happens, the event loop's among them; the one who iterated has left it in a cycle."""

    def first_and_others(elements):
        yield next(elements)
        gc.disable()
        cycle = [elements]
        cycle.append(cycle)
        del elements, cycle
        yield from range(100)

    async def collect_garbage(x):
        if x == 20:
            gc.collect()
            gc.enable()
        return x

    async def same(x):
        return x

    rdd = sc.parallelize(range(1000), 1).map(same).mapPartitions(first_and_others).map(collect_garbage)
    with anyio.fail_after(20):
        assert await rdd.count() == 101
        assert await sc.parallelize([3]).map(square).collect() == [9]


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_asynchronous_generator_is_read_as_far_as_it_is_wanted(sc, ordered):
    async def count_up(x):
        for i in itertools.count():
            await asyncio.sleep(0)
            yield x, i

    async def three_and_a_wait(x):
        for i in range(3):
            yield x, i
        if x:
            await asyncio.sleep(60)

    with anyio.fail_after(20):
        found = await sc.parallelize(range(5), 1).flatMap(count_up, ordered=ordered).take(3)
        assert found == [(0, 0), (0, 1), (0, 2)] or not ordered
        found = await sc.parallelize(range(5), 1).flatMap(three_and_a_wait, ordered=ordered).take(5)
        assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] or not ordered
        assert len(await sc.parallelize(range(5), 1).flatMap(three_and_a_wait, ordered=False).take(15)) == 15


@pytest.mark.parametrize("how", [{"retries": 2}, {"timeout": 60, "on_error": "skip"}, {"on_error": "collect"}])
async def test_of_a_generator_that_may_fail_all_results_count_or_none(local, tmp_path, how):
    async def fail_once(x):
        yield x
        if x == 1 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OSError("not yet")
        yield -x

    found = await local.parallelize(range(3), 1).flatMap(fail_once, **how).collect()
    assert [x for x in found if not isinstance(x, FailedElement)] == (
        [0, 0, 1, -1, 2, -2] if "retries" in how else [0, 0, 2, -2]
    )


async def test_a_generator_that_fails_half_way_fails_its_task(sc):
    async def fail(x):
        for i in range(1000):
            yield i
        raise KeyError("three")

    with pytest.raises(JobFailed, match="three"):
        await sc.parallelize(range(3), 1).flatMap(fail).count()


# ----------------------------------------------------------------------------------------------- errors


async def test_an_error_cancels_its_siblings_and_is_the_jobs(sc, tmp_path):
    async def fail_one(x):
        if x == 3:
            raise KeyError("three") from ValueError("why")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            (tmp_path / f"{x}-{TaskContext.get().attemptNumber()}").touch()
            raise

    with pytest.raises(JobFailed, match="three") as failed:
        await sc.parallelize(range(6), 1).map(fail_one).collect()
    assert isinstance(failed.value.__cause__, KeyError)
    assert "fail_one" in str(failed.value)
    assert {path.name for path in tmp_path.iterdir()} >= {f"{x}-0" for x in (0, 1, 2)}


async def test_skipped_and_collected_failures(sc):
    rdd = sc.parallelize([1, 0, 2], 2)
    assert await rdd.map(invert, on_error="skip").collect() == [1.0, 0.5]
    one, failed, two = await rdd.map(invert, on_error="collect").collect()
    assert (one, two) == (1.0, 0.5)
    assert isinstance(failed, FailedElement) and failed.element == 0
    assert isinstance(failed.error, ZeroDivisionError)
    pairs = await rdd.map(lambda x: ("k", x)).mapValues(invert, on_error="collect").collect()
    assert [key for key, _ in pairs] == ["k"] * 3 and pairs[1][1].element == 0
    (failed,) = await rdd.foreach(invert, on_error="collect")
    assert failed.element == 0


async def test_an_error_that_cannot_be_pickled_is_collected_as_its_story(sc):
    class Local(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")
            self.lock = __import__("threading").Lock()

    async def fail(x):
        raise Local(1, 2)

    (failed,) = await sc.parallelize([7], 1).map(fail, on_error="collect").collect()
    assert failed.element == 7 and "1 and 2" in str(failed.error)


async def test_retries_and_the_last_error(sc, tmp_path):
    async def at_third(x):
        tries = tmp_path / str(x)
        with tries.open("a") as file:
            file.write(".")
        if len(tries.read_text()) < 3:
            raise OSError("not yet")
        return x

    assert await sc.parallelize(range(3), 1).map(at_third, retries=2).collect() == [0, 1, 2]
    for path in tmp_path.iterdir():
        path.unlink()
    (failed,) = await sc.parallelize([5], 1).map(at_third, retries=1, on_error="collect").collect()
    assert isinstance(failed.error, OSError) and (tmp_path / "5").read_text() == ".."


async def test_a_timeout_is_for_one_attempt_at_one_element(sc):
    async def hang_on_one(x):
        await asyncio.sleep(60 if x == 1 else 0)
        return x

    failed = (await sc.parallelize(range(3), 1).map(hang_on_one, timeout=0.2, on_error="collect").collect())[1]
    assert isinstance(failed.error, TimeoutError)
    assert "hang_on_one" in str(failed.error) and "timeout=0.2" in str(failed.error)


async def test_a_server_that_asks_for_a_wait_gets_it(local, tmp_path):
    class Busy(Exception):
        retry_after = "0.7"

    class Response:
        headers = {"Retry-After": "0.7"}

    class Refused(Exception):
        response = Response()

    async def once_busy(x):
        seen = tmp_path / f"{x.__name__}"
        if not seen.exists():
            seen.touch()
            raise x
        return time.time() - seen.stat().st_mtime

    for waited in await local.parallelize([Busy, Refused], 2).map(once_busy, retries=1).collect():
        assert waited >= 0.6  # the file's time is coarse


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
async def test_whatever_a_coroutine_raises_is_the_tasks_failure(sc, error):
    async def fail(x):
        raise error("no more")

    async def fail_all(elements):
        raise error("no more")

    for rdd in (sc.parallelize([1], 1).map(fail), sc.parallelize([1], 1).mapPartitions(fail_all)):
        with pytest.raises(JobFailed):
            await rdd.collect()
    assert await sc.parallelize([3], 1).map(square).collect() == [9]  # the loop goes on


async def test_an_error_upstream_cancels_what_is_under_way(sc, tmp_path):
    def fail_at_five(x):
        if x == 5:
            raise ValueError("five")
        return x

    async def slow(x):
        try:
            await asyncio.sleep(60)
        finally:
            (tmp_path / f"{x}").touch()

    with pytest.raises(JobFailed, match="five"):
        await sc.parallelize(range(6), 1).map(fail_at_five).map(slow).collect()


async def test_wrong_parameters_fail_at_the_call(local):
    rdd = local.parallelize([1])
    for how in (
        {"concurrency": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"retries": -1},
        {"rate": "fast"},
        {"rate": "0/s"},
        {"on_error": "ignore"},
    ):
        with pytest.raises(ArgumentError, match=f"map: {next(iter(how))} = "):
            rdd.map(square, **how)
    for how in ({"concurrency": 2}, {"ordered": False}, {"on_error": "skip"}, {"rate": "1/s"}):
        with pytest.raises(ArgumentTypeError, match=f"map: {next(iter(how))} is for coroutine functions"):
            rdd.map(lambda x: x, **how)
    with pytest.raises(ArgumentTypeError, match="asynchronous generator"):
        rdd.map(count_to)
    with pytest.raises(ArgumentTypeError, match="keyBy: f = .*plain function"):
        rdd.keyBy(square)
    with pytest.raises(ArgumentTypeError, match="rate"):
        rdd.map(square, rate=5)


async def test_a_result_that_is_not_iterable_is_named(sc):
    for rdd in (sc.parallelize([1]).flatMap(square), sc.parallelize([1]).mapPartitions(none)):
        with pytest.raises(JobFailed, match="not iterable") as failed:
            await rdd.collect()
        assert isinstance(failed.value.__cause__, UserFunctionError)


async def none(elements):
    return None


# ---------------------------------------------------------------------------------- rates, kills, losses


async def test_a_rate_holds_over_all_workers(sc):
    async def stamp(x):
        return time.time()

    times = sorted(await sc.parallelize(range(60), 4).map(stamp, rate="100/s").collect())
    assert times[-1] - times[0] >= 0.55  # 59 intervals of 10 ms
    for i in range(len(times) - 20):
        assert times[i + 20] - times[i] >= 0.12  # 20 intervals, less what a message may be late


async def test_cancelling_a_job_cancels_its_coroutines(sc, tmp_path):
    async def hang(x):
        (tmp_path / f"begun {x}").touch()
        try:
            await asyncio.sleep(60)
        finally:
            (tmp_path / f"cancelled {x}").touch()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sc.parallelize(range(4), 1).map(hang).collect)
            await until(lambda: len(list(tmp_path.glob("begun*"))) == 4)
            scope.cancel()
    await until(lambda: len(list(tmp_path.glob("cancelled*"))) == 4)
    # the slots are free at once, of threads too
    with anyio.fail_after(20):
        assert await sc.parallelize(range(4), 4).map(square).collect() == [0, 1, 4, 9]


@asynccontextmanager
async def cancelled_when(condition, action, *arguments):
    """What an action's job leaves behind when it is cancelled as soon as ``condition`` holds."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(action, *arguments)
        await until(condition)
        tasks.cancel_scope.cancel()
    yield


@pytest.mark.parametrize(
    "act",
    [
        lambda rdd, f: rdd.flatMap(f, retries=1).count(),
        lambda rdd, f: rdd.flatMap(f).count(),
        lambda rdd, f: rdd.mapPartitions(f).count(),
        lambda rdd, f: rdd.foreachPartition(f),
    ],
)
async def test_cancelling_ends_a_generator_that_never_waits(sc, tmp_path, act):
    async def busy(given):
        (tmp_path / "begun").touch()
        try:
            for _ in range(2000):
                time.sleep(0.001)
                yield 1
            (tmp_path / "not cancelled").touch()
        finally:
            (tmp_path / "ended").touch()

    async with cancelled_when((tmp_path / "begun").exists, act, sc.parallelize([1], 1), busy):
        await until((tmp_path / "ended").exists)
    assert not (tmp_path / "not cancelled").exists()


@pytest.mark.parametrize("on_error", ["raise", "skip", "collect"])
async def test_a_function_that_hides_its_cancellation_is_not_called_again(sc, tmp_path, on_error):
    class Aborted(Exception):
        retry_after = 0  # not that a wait would hide it

    async def request(x):
        with (tmp_path / "calls").open("a") as file:
            file.write(f"{x} ")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # as client libraries do
            (tmp_path / "aborted").touch()
            raise Aborted from None

    def store(results):
        (tmp_path / "committed").write_text(str(list(results)))

    rdd = sc.parallelize([7], 1).map(request, retries=2, on_error=on_error)
    async with cancelled_when((tmp_path / "calls").exists, rdd.foreachPartition, store):
        await until((tmp_path / "aborted").exists)
        with anyio.fail_after(20):  # the slot is free
            assert await sc.parallelize(range(4), 4).map(square).collect() == [0, 1, 4, 9]
    assert (tmp_path / "calls").read_text() == "7 "
    assert not (tmp_path / "committed").exists()


async def test_a_call_that_cancels_its_own_task_has_failed(sc):
    async def give_up(x):
        if x == 1:
            asyncio.current_task().cancel()
        await asyncio.sleep(0)
        return x

    rdd = sc.parallelize(range(3), 1)
    with anyio.fail_after(20):
        with pytest.raises(JobFailed, match="give_up cancelled itself"):
            await rdd.map(give_up).collect()
        assert await rdd.map(give_up, on_error="skip").collect() == [0, 2]


@pytest.mark.parametrize("in_a_task_of_its_own", [False, True])
async def test_what_outlives_its_cancellation_does_not_take_half_a_partition_for_all(
    sc, tmp_path, in_a_task_of_its_own
):
    async def write_all(rows):
        written = 0
        async for _ in rows:
            (tmp_path / "begun").touch()
            await asyncio.sleep(0.002)
            written += 1
        return written

    async def write_all_in_a_task(rows):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(write_all(rows))
        return task.result()

    async def commit(rows):
        try:
            written = await (write_all_in_a_task if in_a_task_of_its_own else write_all)(rows)
            (tmp_path / "committed").write_text(f"{written} of 1000")
        finally:
            (tmp_path / "ended").touch()

    async def store(rows):
        await asyncio.shield(commit(rows))

    rdd = sc.parallelize(range(1000), 1)
    async with cancelled_when((tmp_path / "begun").exists, rdd.foreachPartition, store):
        await until((tmp_path / "ended").exists)
    assert not (tmp_path / "committed").exists()


@pytest.mark.parametrize("gives_up", [False, True])
async def test_what_follows_a_cancelled_coroutine_does_not_take_half_a_partition_for_all(sc, tmp_path, gives_up):
    async def ask(rows):
        async for x in rows:
            try:
                if x == 3:
                    (tmp_path / "begun").touch()
                    await asyncio.sleep(60)
            except asyncio.CancelledError:  # as if it were an error of the service
                if gives_up:
                    return
            yield x

    def store(rows):
        try:
            (tmp_path / "committed").write_text(f"{len(list(rows))} of 1000")
        finally:
            (tmp_path / "ended").touch()

    rdd = sc.parallelize(range(1000), 1).mapPartitions(ask)
    async with cancelled_when((tmp_path / "begun").exists, rdd.foreachPartition, store):
        await until((tmp_path / "ended").exists)
    assert not (tmp_path / "committed").exists()


async def test_a_worker_that_dies_in_a_coroutine_is_replaced(running, tmp_path):
    async def die_once(x):
        if x == 2:
            try:
                (tmp_path / "died").touch(exist_ok=False)
            except FileExistsError:
                return x
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.01)
        return x

    sc = running.context
    if sc.master.startswith("processes"):
        assert await sc.parallelize(range(6), 2).map(die_once).collect() == list(range(6))


# ---------------------------------------------------------------------------------------------- resources


class CountingServer:
    """Answers each line with its length, and counts connections."""

    def __init__(self) -> None:
        self.opened = self.open = 0

    async def serve(self, stream) -> None:
        self.opened += 1
        self.open += 1
        try:
            with suppress(anyio.BrokenResourceError):  # a cancelled client leaves answers unread: a reset
                async with stream:
                    async for data in stream:
                        for line in data.splitlines():
                            await stream.send(b"%d\n" % len(line))
        finally:
            self.open -= 1


@asynccontextmanager
async def counting_server():
    server = CountingServer()
    async with anyio.create_task_group() as tasks:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        tasks.start_soon(listener.serve, server.serve)
        yield server, listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


class Client:
    """One connection, and its turns."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer, self.lock = reader, writer, asyncio.Lock()

    async def length(self, text: str) -> int:
        async with self.lock:
            self.writer.write(f"{text}\n".encode())
            return int(await self.reader.readline())


def connector(port: int):
    @asynccontextmanager
    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    return connect


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize(("master", "workers"), [("inline", 1), ("threads[2]", 1), ("processes[2]", 2)])
def test_a_resource_is_opened_once_per_worker_and_closed_with_it(loop, master, workers):
    async def main():
        async with counting_server() as (server, port):
            async with SparkContext(master) as sc:
                client = WorkerResource(connector(port))

                async def length(x):
                    return await (await client).length("x" * x)

                for _ in range(3):
                    assert await sc.parallelize(range(1, 41), 8).map(length).collect() == list(range(1, 41))
                assert 1 <= server.opened <= workers
                assert server.open == server.opened
            await until(lambda: server.open == 0)

    anyio.run(main, backend=loop)


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_a_connection_is_held_for_a_partition(master):
    async def main():
        async with counting_server() as (server, port), SparkContext(master) as sc:
            connect = connector(port)

            async def lengths(elements):
                async with connect() as client:
                    async for x in elements:
                        yield await client.length("x" * x)

            rdd = sc.parallelize(range(1, 41), 4).mapPartitions(lengths)
            assert await rdd.collect() == list(range(1, 41))
            assert server.opened == 4
            assert await rdd.first() == 1  # which leaves the partition in the middle
            await until(lambda: server.open == 0)
            assert server.opened == 5

    anyio.run(main)


async def test_a_resource_that_cannot_be_opened_fails_who_awaits_it_and_is_tried_again(local, tmp_path):
    @asynccontextmanager
    async def flaky():
        if not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise ConnectionRefusedError("not yet")
        yield "here"

    resource = WorkerResource(flaky)

    async def use(x):
        return await resource

    first, second = await local.parallelize([1, 2], 1).map(use, concurrency=1, on_error="collect").collect()
    assert isinstance(first.error, ConnectionRefusedError) and second == "here"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
async def test_whatever_opening_a_resource_raises_is_the_elements_failure(local, error):
    def connect():
        raise error("no hosts left")

    @asynccontextmanager
    async def connect_later():
        await asyncio.sleep(0)
        raise error("no hosts left")
        yield

    for factory in (connect, connect_later):
        resource = WorkerResource(factory)

        async def use(x):
            return await resource

        with anyio.fail_after(20), pytest.raises(JobFailed):
            await local.parallelize([1, 2], 1).map(use).collect()
    assert await local.parallelize([3], 1).map(square).collect() == [9]  # the loop goes on


async def test_a_resource_that_ends_in_use_is_opened_anew(sc, tmp_path):
    @asynccontextmanager
    async def connect():
        connection = {"alive": True}

        async def heartbeat():
            await until((tmp_path / "down").exists)
            connection["alive"] = False
            raise ConnectionError("the server went away")

        async with anyio.create_task_group() as tasks:
            try:
                tasks.start_soon(heartbeat)
                yield connection
            finally:
                (tmp_path / "ended").touch()
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):  # it may take its time
                    await until((tmp_path / "gone").exists)

    resource = WorkerResource(connect)

    async def is_alive(x):
        return (await resource)["alive"]

    rdd = sc.parallelize([1], 1).map(is_alive)
    assert await rdd.collect() == [True]
    (tmp_path / "down").touch()
    await until((tmp_path / "ended").exists)
    (tmp_path / "down").unlink()
    assert await rdd.collect() == [True]
    (tmp_path / "gone").touch()
    assert await rdd.collect() == [True]


async def test_a_resource_is_awaited_where_there_is_a_worker(local):
    with pytest.raises(ArgumentTypeError, match="factory = 5"):
        WorkerResource(5)
    with pytest.raises(ContextError, match="coroutine function"):
        await WorkerResource(counting_server)
    wrong = WorkerResource(dict)

    async def use(x):
        return await wrong

    with pytest.raises(JobFailed, match="no asynchronous context manager"):
        await local.parallelize([1], 1).map(use).collect()


@pytest.mark.parametrize("master", ["threads[1]", "processes[1]"])
def test_what_does_not_end_keeps_no_resource_from_being_closed(master, tmp_path: Path):
    """A resource that is slow to close, a coroutine that goes on, a task that nobody waits for and ends badly."""

    def resource(name, wait):
        @asynccontextmanager
        async def connect():
            yield name
            await asyncio.sleep(wait)
            (tmp_path / f"closed {name}").touch()

        return WorkerResource(connect)

    first, second, slow = resource("first", 0), resource("second", 0.01), resource("slow", 60)

    async def bad():
        try:
            await asyncio.sleep(60)
        finally:
            raise SystemExit(3)

    async def stubborn(x):
        background = [asyncio.create_task(bad()), await first, await second, await slow]
        (tmp_path / "begun").touch()
        while not (tmp_path / "end").exists():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return background

    async def main():
        async with SparkContext(master) as sc, anyio.create_task_group() as tasks:

            async def fails():
                with pytest.raises(ContextError):
                    await sc.parallelize([1], 1).map(stubborn).collect()

            tasks.start_soon(fails)
            await until((tmp_path / "begun").exists)
            await sc.stop()

    anyio.run(main)
    (tmp_path / "end").touch()  # a thread would go on
    assert {path.name for path in tmp_path.glob("closed*")} == {"closed first", "closed second"}


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_stopping_cancels_coroutines_and_closes_resources(master, tmp_path: Path):
    @asynccontextmanager
    async def resource():
        try:
            yield 1
        finally:
            await asyncio.sleep(0.05)
            (tmp_path / f"closed {os.getpid()}").touch()

    held = WorkerResource(resource)

    async def hang(x):
        await held
        (tmp_path / f"begun {x}").touch()
        try:
            await asyncio.sleep(60)
        finally:
            (tmp_path / f"cancelled {x}").touch()

    async def main():
        conf = SparkConf().set("spark.task.reaper.killTimeout", "20s")
        async with SparkContext(master, conf=conf) as sc, anyio.create_task_group() as tasks:

            async def fails():
                with pytest.raises(ContextError):
                    await sc.parallelize(range(2), 2).map(hang).collect()

            tasks.start_soon(fails)
            await until(lambda: len(list(tmp_path.glob("begun*"))) == 2)
            await sc.stop()

    anyio.run(main)
    assert len(list(tmp_path.glob("cancelled*"))) == 2
    assert len(list(tmp_path.glob("closed*"))) == (1 if master == "threads[2]" else 2)


def plainly(function):
    def called(*arguments):
        return function(*arguments)

    return called


@pytest.mark.parametrize(
    "act",
    [
        lambda rdd: rdd.filter(plainly(is_odd)).collect(),
        lambda rdd: rdd.filter(lambda x: x < 3).filter(lambda x: is_odd(x)).count(),
        lambda rdd: rdd.foreach(plainly(square)),
        lambda rdd: rdd.map(plainly(square)).count(),
        lambda rdd: rdd.map(plainly(square)).collect(),
        lambda rdd: rdd.map(plainly(square)).take(1),
        lambda rdd: rdd.map(plainly(square)).sum(),
        lambda rdd: rdd.map(plainly(square)).map(lambda x: x + 1).collect(),
        lambda rdd: rdd.map(lambda x: [x, square(x)]).collect(),
        lambda rdd: rdd.map(lambda x: (x, square(x))).partitionBy(2).count(),
        lambda rdd: rdd.map(plainly(square)).cache().isEmpty(),
        lambda rdd: rdd.flatMap(plainly(up_to)).collect(),
        lambda rdd: rdd.keyBy(plainly(square)).count(),
        lambda rdd: rdd.keyBy(str).mapValues(plainly(square)).count(),
        lambda rdd: rdd.keyBy(str).flatMapValues(plainly(up_to)).count(),
        lambda rdd: rdd.mapPartitions(lambda xs: square(1)).collect(),
        lambda rdd: rdd.foreachPartition(lambda xs: square(1)),
    ],
)
def test_a_plain_function_that_returns_a_coroutine_is_told_what_to_do(contexts, act):
    running = contexts("processes[2]", "asyncio")
    with pytest.raises(JobFailed, match="give the operation the coroutine function itself, or write the function with"):
        running.run(act, running.context.parallelize(range(4), 2))

"""Jobs on hosts that share no files: what is kept where, and what happens when hosts fail."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from waiting import wait_until

from asparkle import RDD, Accumulator, SparkContext, StorageLevel
from asparkle.core.hostfiles import HostFiles
from asparkle.errors import ContextStopped, JobCancelled, JobFailed, ResultTooLarge
from asparkle.events import BlockUpdated, TaskEnded
from asparkle.plugins.listeners import EventRecorder
from hosts.contexts import MB, context, driver_files, here, on_disk, pids

pytestmark = pytest.mark.slow


def test_a_shuffle_of_hundreds_of_megabytes(tmp_path):
    """In bounded memory."""

    def peak(_):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    with context("apart://2x1", spark_reducer_maxSizeInFlight="8m", spark_python_worker_memory="40m") as (sc, _):
        before = max(sc.parallelize(range(8), 8).map(peak).collect())
        pieces = sc.parallelize(range(300), 30).map(lambda i: (i, os.urandom(MB)))
        moved = pieces.partitionBy(4).map(lambda pair: (len(pair[1]), pair[0]))
        assert sorted(moved.collect()) == [(MB, i) for i in range(300)]
        after = max(sc.parallelize(range(8), 8).map(peak).collect())
        assert after - before < 150


def test_a_result_that_is_too_large_is_not_fetched():
    with context("apart://2x1", spark_driver_maxResultSize="1m") as (sc, cluster):
        with pytest.raises(ResultTooLarge):
            sc.parallelize(range(2), 2).map(lambda _: bytes(3 * MB)).collect()
        wait_until(lambda: on_disk(cluster) == [] and driver_files(cluster, "results") == [])
        assert sc.parallelize(range(4), 2).sum() == 6


# ------------------------------------------------------------------------------------------- cached partitions


@pytest.mark.parametrize("level", [StorageLevel.MEMORY_ONLY, StorageLevel.DISK_ONLY])
def test_cached_partitions_are_fetched_from_other_hosts(level):
    """By tasks that can't be where they are; and are computed once."""
    with context("apart://2x1", spark_locality_wait="0s") as (sc, cluster):
        computed = sc.accumulator(0)
        cached = sc.parallelize(range(4), 4).map(lambda i: (computed.add(1), here(), i)[1:]).persist(level)
        assert [i for _, i in cached.collect()] == [0, 1, 2, 3]
        places = {i: host for host, i in cached.collect()}
        assert set(places.values()) == {"h0", "h1"}
        # one task reads them all: some are another host's
        together = cached.coalesce(1).map(lambda pair: (*pair, here())).collect()
        assert {i: host for host, i, _ in together} == places
        assert len({reader for _, _, reader in together}) == 1
        assert computed.value == 4
        cached.unpersist()
        wait_until(lambda: on_disk(cluster) == [])


def test_executors_of_one_host_share_what_is_on_disk():
    recorder = EventRecorder()
    with context("apart://1x2", recorder) as (sc, _):
        cached = sc.parallelize(range(40), 8).map(lambda i: (time.sleep(0.01), os.getpid())[1])
        cached.persist(StorageLevel.DISK_ONLY)
        first = cached.collect()
        assert len(set(first)) == 2
        assert cached.coalesce(1).collect() == first
    assert all(event.metrics.fetched == () for event in recorder.of_type(TaskEnded))


@pytest.mark.parametrize("level", [StorageLevel.MEMORY_ONLY_2, StorageLevel.DISK_ONLY_2])
def test_replicas_are_on_other_hosts_and_survive_one(level):
    recorder = EventRecorder()
    with context("apart://2x2", recorder) as (sc, cluster):
        computed = sc.accumulator(0)
        cached = sc.parallelize(range(400), 8).map(lambda i: (computed.add(1), i)[1]).persist(level)
        assert cached.sum() == sum(range(400))

        def where() -> dict[int, set[str]]:
            found: dict[int, set[str]] = {}
            for event in recorder.of_type(BlockUpdated):
                found.setdefault(event.partition, set()).add(event.host)
            return found

        assert computed.value == 400
        cluster.kill_host("h0")
        assert cached.sum() == sum(range(400))
        assert computed.value == 400
        wait_until(lambda: where() == {p: {"h0", "h1"} for p in range(8)})


# ---------------------------------------------------------------------------------------------- hosts that fail


def three_stages(sc: SparkContext, slow: float, tasks: Accumulator[int]) -> RDD:
    """With a cached input, and an accumulator for what it computed."""
    cached = sc.parallelize(range(1200), 12).map(lambda i: (i % 50, bytes([i % 251]) * 3000)).cache()
    grouped = cached.groupByKey(6).mapValues(len)

    def work(pair):
        tasks.add(1)
        time.sleep(slow)
        return pair[1], pair[0]

    return grouped.map(work).groupByKey(3).mapValues(sorted)


EXPECTED = {24: list(range(50))}


def test_a_host_that_is_lost_in_the_middle():
    with context("apart://3x1") as (sc, cluster):
        counted = sc.accumulator(0)
        rdd = three_stages(sc, 0.02, counted)

        def kill() -> None:
            wait_until(lambda: any("shuffle-" in path for path in cluster.files("h1")))
            cluster.kill_host("h1")

        killing = threading.Thread(target=kill)
        killing.start()
        assert dict(rdd.collect()) == EXPECTED
        killing.join()
        assert counted.value == 50
        assert dict(rdd.collect()) == EXPECTED
        assert counted.value == 50


def test_a_host_whose_map_outputs_are_lost_after_they_were_written():
    with context("apart://3x1") as (sc, cluster):
        counted = sc.accumulator(0)
        grouped = sc.parallelize(range(600), 6).map(lambda i: (counted.add(1), (i % 5, bytes(20_000)))[1]).groupByKey(3)
        sizes = grouped.mapValues(len)
        assert dict(sizes.collect()) == dict.fromkeys(range(5), 120)
        cluster.kill_host("h2")
        assert dict(sizes.collect()) == dict.fromkeys(range(5), 120)
        assert counted.value == 600


@pytest.mark.parametrize("fault", ["short", "garbage", "stalls", "damaged"])
def test_a_file_server_that_goes_wrong_once(fault):
    with context("apart://2x1", spark_network_timeout="500ms") as (sc, cluster):
        grouped = sc.parallelize(range(200), 8).map(lambda i: (i % 5, bytes([i]) * 20_000)).groupByKey(2)
        sizes = grouped.mapValues(lambda values: sorted({value[0] for value in values}))
        wanted = {k: list(range(k, 200, 5)) for k in range(5)}
        for host in cluster.hosts:
            cluster.fault(host, fault)
        assert dict(sizes.collect()) == wanted
        assert not all(os.path.exists(os.path.join(cluster.root, f"{host}.fault")) for host in cluster.hosts)


@pytest.mark.parametrize("fault", ["short", "garbage", "stalls"])
def test_the_drivers_file_server_goes_wrong_once(fault):
    with context("apart://2x1", spark_network_timeout="500ms") as (sc, cluster):
        value = sc.broadcast(bytes(3 * MB))
        cluster.fault("", fault)
        assert sc.parallelize(range(4), 4).map(lambda _: len(value.value)).collect() == [3 * MB] * 4
        assert not os.path.exists(os.path.join(cluster.root, "driver.fault"))


def losing(monkeypatch: pytest.MonkeyPatch, lose: Callable[[str], object]) -> None:
    """When the first result is fetched."""
    bring, lost = HostFiles.bring, []

    def brings(self, ref, path):
        if not lost:
            lost.append(ref.host)
            lose(ref.host)
        return bring(self, ref, path)

    monkeypatch.setattr(HostFiles, "bring", brings)


def test_a_result_that_is_lost_is_computed_again(monkeypatch):
    """And what its tasks have counted, counts once."""
    with context("apart://3x1", asparkle_result_direct_max="10k") as (sc, cluster):
        counted = sc.accumulator(0)
        losing(monkeypatch, cluster.kill_host)
        data = sc.parallelize(range(6), 6).map(lambda i: (counted.add(1), bytes([i]) * 50_000)[1]).collect()
        assert data == [bytes([i]) * 50_000 for i in range(6)]
        assert counted.value == 6
        assert driver_files(cluster, "results") == []


def test_results_that_are_lost_again_and_again():
    """The job fails, and says of which host."""
    with context("apart://1x1", asparkle_result_direct_max="10k") as (sc, cluster):
        os.unlink(os.path.join(cluster.root, "h0.sock"))
        with pytest.raises(JobFailed, match="the files of host 'h0' can't be reached: No such file") as raised:
            sc.parallelize(range(2), 2).map(lambda i: bytes(50_000)).collect()
        assert raised.value.host == "h0"
        assert sc.parallelize(range(4), 2).sum() == 6
        assert driver_files(cluster, "results") == []


def failing(sc: SparkContext, how: type[Exception]) -> threading.Thread:
    """A job with a result in a file, begun in a thread, where it is expected to fail."""

    def run() -> None:
        with pytest.raises(how):
            sc.parallelize(range(1), 1).map(lambda i: bytes(50_000)).collect()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_job_that_is_cancelled_while_its_results_are_fetched(monkeypatch):
    """Ends at once; nothing of it is left; its executors live."""
    with context("apart://2x1", asparkle_result_direct_max="10k", spark_task_reaper_killTimeout="10ms") as (
        sc,
        cluster,
    ):
        going, gone = threading.Event(), threading.Event()
        losing(monkeypatch, lambda host: (going.set(), gone.wait(60)))
        before = set(pids(sc))
        job = failing(sc, JobCancelled)
        assert going.wait(60)
        sc.cancelAllJobs()
        job.join(60)
        assert not job.is_alive()
        gone.set()
        wait_until(lambda: on_disk(cluster) == [] and driver_files(cluster, "results") == [])
        wait_until(lambda: set(pids(sc)) == before)


def test_a_context_that_is_stopped_while_a_host_says_nothing():
    with context("apart://1x1", asparkle_result_direct_max="10k", spark_network_timeout="1h") as (sc, cluster):
        cluster.fault("h0", "stalls")
        job = failing(sc, ContextStopped)
        wait_until(lambda: not os.path.exists(os.path.join(cluster.root, "h0.fault")))
    job.join(60)
    assert not job.is_alive()


# ----------------------------------------------------------------------------------------------------- events


def test_what_came_from_where():
    recorder = EventRecorder()
    with context("apart://2x1", recorder) as (sc, _):
        data = sc.parallelize(range(40), 8).map(lambda i: (i, bytes(10_000)))
        assert data.partitionBy(4).count() == 40
        value = sc.broadcast(bytes(MB))
        assert sc.parallelize(range(4), 4).map(lambda _: (time.sleep(0.02), len(value.value))[1]).sum() == 4 * MB
    ended = [event for event in recorder.of_type(TaskEnded) if event.metrics is not None]
    pairs = Counter()
    for event in ended:
        for host, route, size in event.metrics.fetched:
            assert host != event.host and route == "direct"
            pairs[host, event.host] += size
    assert MB < pairs["", "h0"] < MB + 100_000 and MB < pairs["", "h1"] < MB + 100_000
    remote = sum(event.metrics.shuffle_remote_bytes for event in ended)
    assert pairs["h0", "h1"] + pairs["h1", "h0"] == remote
    read = sum(event.metrics.shuffle_read_bytes for event in ended)
    assert 0 < remote < read
    blocks = sum(event.metrics.shuffle_remote_blocks for event in ended)
    assert 0 < blocks < sum(event.metrics.shuffle_read_blocks for event in ended)

"""asparkle's own implementations keep the promises of their contracts, like anyone's."""

from __future__ import annotations

import os

import pytest

from asparkle import SparkConf
from asparkle.backends.disk import DiskStore
from asparkle.backends.inline import InlineManager
from asparkle.backends.processes import ProcessesManager
from asparkle.backends.shufflefiles import FileShuffleStore
from asparkle.backends.threads import ThreadsManager
from asparkle.core.compression import Bzip2, Deflate, Gzip, Lz4, Xz, Zstd
from asparkle.plugins import schedulingpolicies as scheduling
from asparkle.plugins.cachepolicies import FIFO, LFU, LRU, CostAware
from asparkle.plugins.eventlog import EventLogListener
from asparkle.plugins.eventlog.files import log_files
from asparkle.plugins.jsonlines import JsonLinesListener
from asparkle.plugins.listeners import EventRecorder, LogListener
from asparkle.plugins.progress import ProgressListener
from asparkle.plugins.serializers import Pickle
from asparkle.plugins.statsd import StatsdSink
from asparkle.testing import (
    BlockStoreConformance,
    CachePolicyConformance,
    CodecConformance,
    ExecutorBackendConformance,
    InProcessBackendConformance,
    ListenerConformance,
    MetricSinkConformance,
    SchedulingPolicyConformance,
    SerializerConformance,
    ShuffleStoreConformance,
    small_disk,
)

pytestmark = pytest.mark.slow


class TestInline(InProcessBackendConformance):
    master = "inline"

    def make(self):
        return InlineManager()


class TestThreads(InProcessBackendConformance):
    master = "threads[2]"

    def make(self):
        return ThreadsManager()


class TestProcesses(ExecutorBackendConformance):
    master = "processes[2]"

    def make(self):
        return ProcessesManager()


class TestDiskStore(BlockStoreConformance):
    def make(self, app):
        return DiskStore(app)

    def full(self, store):
        return small_disk(1 << 20)


class TestFileShuffleStore(ShuffleStoreConformance):
    def make(self, app):
        return FileShuffleStore(app)

    def full(self, store):
        return small_disk(1 << 20)

    def damage(self, location):
        os.truncate(location, os.path.getsize(location) // 2)


class TestLRU(CachePolicyConformance):
    def make(self, app):
        return LRU(app)


class TestLFU(CachePolicyConformance):
    def make(self, app):
        return LFU(app)


class TestFIFO(CachePolicyConformance):
    def make(self, app):
        return FIFO(app)


class TestCost(CachePolicyConformance):
    def make(self, app):
        return CostAware(app)


class TestGzip(CodecConformance):
    def make(self):
        return Gzip()


class TestBzip2(CodecConformance):
    def make(self):
        return Bzip2()


class TestXz(CodecConformance):
    def make(self):
        return Xz()


class TestDeflate(CodecConformance):
    def make(self):
        return Deflate()


class TestZstd(CodecConformance):
    def make(self):
        pytest.importorskip("zstandard")
        return Zstd()


class TestLz4(CodecConformance):
    def make(self):
        pytest.importorskip("lz4")
        return Lz4()


class TestPickle(SerializerConformance):
    def make(self, app):
        return Pickle(app)


class TestSchedulingFIFO(SchedulingPolicyConformance):
    def make(self, conf):
        return scheduling.FIFO(conf)


class TestSchedulingFAIR(SchedulingPolicyConformance):
    def make(self, conf):
        return scheduling.FAIR(conf)


class TestEventRecorder(ListenerConformance):
    def make(self):
        return EventRecorder()


class TestLogListener(ListenerConformance):
    def make(self):
        return LogListener()


class TestJsonLinesListener(ListenerConformance):
    def make(self):
        return JsonLinesListener(self.directory / "events.jsonl")


class TestEventLogListener(ListenerConformance):
    def make(self):
        conf = SparkConf().set("spark.eventLog.dir", str(self.directory))
        return EventLogListener(log_files(conf), block_updates=True)


class TestProgressListener(ListenerConformance):
    def make(self):
        return ProgressListener()


@pytest.fixture(scope="module")
def terminal():
    theirs, ours = os.openpty()
    with os.fdopen(ours, "w") as stream:
        yield stream
    os.close(theirs)


class TestProgressListenerOnATerminal(ListenerConformance):
    @pytest.fixture(autouse=True)
    def _on_a_terminal(self, terminal):
        self.terminal = terminal

    def make(self):
        return ProgressListener(self.terminal)


class TestStatsdSink(MetricSinkConformance):
    bad_settings = [{"asparkle.metrics.statsd.address": "no port"}]

    def make(self, conf):
        return StatsdSink(conf)

    def towards(self, host, port):
        return {"asparkle.metrics.statsd.address": f"{host}:{port}"}

"""What plugin authors test with: conformance classes, recorders, leak checks, a simulated cluster.

    from asparkle.testing import BlockStoreConformance

    class TestMyStore(BlockStoreConformance):
        def make(self, directories):
            return MyStore(directories)

Needs pytest, which asparkle itself does not.  Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy

if TYPE_CHECKING:
    from asparkle.plugins.listeners import EventRecorder
    from asparkle.testing.backends import ExecutorBackendConformance, InProcessBackendConformance
    from asparkle.testing.codecs import CodecConformance
    from asparkle.testing.leaks import Leak, no_leaks
    from asparkle.testing.listeners import ListenerConformance
    from asparkle.testing.policies import CachePolicyConformance
    from asparkle.testing.promises import Conformance, PromiseBroken, expect
    from asparkle.testing.samples import sample_app, sample_events
    from asparkle.testing.scheduling import SchedulingPolicyConformance
    from asparkle.testing.serializers import SerializerConformance
    from asparkle.testing.shuffles import ShuffleStoreConformance
    from asparkle.testing.simulation import SimulatedAttempt, SimulatedCluster, SimulatedJob
    from asparkle.testing.sinks import MetricSinkConformance, sample_metrics
    from asparkle.testing.stores import BlockStoreConformance, small_disk

__all__ = [
    "BlockStoreConformance",
    "CachePolicyConformance",
    "CodecConformance",
    "Conformance",
    "EventRecorder",
    "ExecutorBackendConformance",
    "InProcessBackendConformance",
    "Leak",
    "ListenerConformance",
    "MetricSinkConformance",
    "PromiseBroken",
    "SchedulingPolicyConformance",
    "SerializerConformance",
    "ShuffleStoreConformance",
    "SimulatedAttempt",
    "SimulatedCluster",
    "SimulatedJob",
    "expect",
    "no_leaks",
    "sample_app",
    "sample_events",
    "sample_metrics",
    "small_disk",
]

__getattr__ = lazy(
    __name__,
    {
        "asparkle.plugins.listeners": ["EventRecorder"],
        "asparkle.testing.backends": ["ExecutorBackendConformance", "InProcessBackendConformance"],
        "asparkle.testing.codecs": ["CodecConformance"],
        "asparkle.testing.leaks": ["Leak", "no_leaks"],
        "asparkle.testing.listeners": ["ListenerConformance"],
        "asparkle.testing.policies": ["CachePolicyConformance"],
        "asparkle.testing.promises": ["Conformance", "PromiseBroken", "expect"],
        "asparkle.testing.samples": ["sample_app", "sample_events"],
        "asparkle.testing.scheduling": ["SchedulingPolicyConformance"],
        "asparkle.testing.serializers": ["SerializerConformance"],
        "asparkle.testing.shuffles": ["ShuffleStoreConformance"],
        "asparkle.testing.simulation": ["SimulatedAttempt", "SimulatedCluster", "SimulatedJob"],
        "asparkle.testing.sinks": ["MetricSinkConformance", "sample_metrics"],
        "asparkle.testing.stores": ["BlockStoreConformance", "small_disk"],
    },
)

"""What plugin authors import: the contracts, what helps to meet them, and `hookimpl`, which marks a hook's
implementation.  The hooks are in `asparkle.plugins.hookspecs`.

`API_VERSION` is what a plugin is written against; see there.  Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asparkle.core.lazy import lazy
from asparkle.core.version import API_VERSION

if TYPE_CHECKING:
    from asparkle.core.bytestream import Unpacker, pack
    from asparkle.core.certificates import Authority
    from asparkle.core.conf import KEYS, ConfigKey, parse_address, parse_bytes, parse_seconds
    from asparkle.core.contracts import (
        AppSpec,
        BlockFacts,
        BlockId,
        BlockStore,
        Buffer,
        CachePolicy,
        Cluster,
        ClusterManager,
        Codec,
        Connection,
        Dial,
        Executor,
        ExecutorInfo,
        Listener,
        Lost,
        MapOutputId,
        MapOutputReader,
        MapOutputWriter,
        Metric,
        Metrics,
        MetricSink,
        PoolFacts,
        Rank,
        SchedulingPolicy,
        Serializer,
        ShuffleStore,
        TaskSetFacts,
    )
    from asparkle.core.directories import ApplicationDirectories, remove_tree
    from asparkle.core.fileserver import Copies, serve_files
    from asparkle.core.filesystems import local_path
    from asparkle.core.hostfiles import HostFiles
    from asparkle.core.logs import log
    from asparkle.core.loop import Receiver, clean_up, in_thread, loop_caller
    from asparkle.core.masters import available_cpus, default_memory
    from asparkle.core.payloads import remove_file, write_file
    from asparkle.core.peers import Identity, PeerServer, connect_peer
    from asparkle.core.platforms import Platform
    from asparkle.core.protocol import MessageReader, ToDriver, ToExecutor, encode
    from asparkle.core.readahead import Piece, ReadAhead
    from asparkle.core.serializer import dumps, loads, map_file, write_all
    from asparkle.core.shuffle.spill import read_into
    from asparkle.core.worker.channel import serve
    from asparkle.core.worker.mark import running_task
    from asparkle.core.worker.preload import preload
    from asparkle.core.worker.runtime import Worker
    from asparkle.core.workercluster import Channel, ChannelExecutor, SocketExecutor, WorkerCluster, worker_command
    from asparkle.plugins.hookspecs import hookimpl
    from asparkle.plugins.reading import read_events
    from asparkle.plugins.replaying import Replayed, replay

__all__ = [
    "API_VERSION",
    "KEYS",
    "AppSpec",
    "ApplicationDirectories",
    "Authority",
    "BlockFacts",
    "BlockId",
    "BlockStore",
    "Buffer",
    "CachePolicy",
    "Channel",
    "ChannelExecutor",
    "Cluster",
    "ClusterManager",
    "Codec",
    "ConfigKey",
    "Connection",
    "Copies",
    "Dial",
    "Executor",
    "ExecutorInfo",
    "HostFiles",
    "Identity",
    "Listener",
    "Lost",
    "MapOutputId",
    "MapOutputReader",
    "MapOutputWriter",
    "MessageReader",
    "Metric",
    "MetricSink",
    "Metrics",
    "PeerServer",
    "Piece",
    "Platform",
    "PoolFacts",
    "Rank",
    "ReadAhead",
    "Receiver",
    "Replayed",
    "SchedulingPolicy",
    "Serializer",
    "ShuffleStore",
    "SocketExecutor",
    "TaskSetFacts",
    "ToDriver",
    "ToExecutor",
    "Unpacker",
    "Worker",
    "WorkerCluster",
    "available_cpus",
    "clean_up",
    "connect_peer",
    "default_memory",
    "dumps",
    "encode",
    "hookimpl",
    "in_thread",
    "loads",
    "local_path",
    "log",
    "loop_caller",
    "map_file",
    "pack",
    "parse_address",
    "parse_bytes",
    "parse_seconds",
    "preload",
    "read_events",
    "read_into",
    "remove_file",
    "remove_tree",
    "replay",
    "running_task",
    "serve",
    "serve_files",
    "worker_command",
    "write_all",
    "write_file",
]

__getattr__ = lazy(
    __name__,
    {
        "asparkle.core.bytestream": ["Unpacker", "pack"],
        "asparkle.core.certificates": ["Authority"],
        "asparkle.core.conf": ["KEYS", "ConfigKey", "parse_address", "parse_bytes", "parse_seconds"],
        "asparkle.core.contracts": [
            "AppSpec",
            "BlockFacts",
            "BlockId",
            "BlockStore",
            "Buffer",
            "CachePolicy",
            "Cluster",
            "ClusterManager",
            "Codec",
            "Connection",
            "Dial",
            "Executor",
            "ExecutorInfo",
            "Listener",
            "Lost",
            "MapOutputId",
            "MapOutputReader",
            "MapOutputWriter",
            "Metric",
            "MetricSink",
            "Metrics",
            "PoolFacts",
            "Rank",
            "SchedulingPolicy",
            "Serializer",
            "ShuffleStore",
            "TaskSetFacts",
        ],
        "asparkle.core.directories": ["ApplicationDirectories", "remove_tree"],
        "asparkle.core.fileserver": ["Copies", "serve_files"],
        "asparkle.core.filesystems": ["local_path"],
        "asparkle.core.hostfiles": ["HostFiles"],
        "asparkle.core.logs": ["log"],
        "asparkle.core.loop": ["Receiver", "clean_up", "in_thread", "loop_caller"],
        "asparkle.core.masters": ["available_cpus", "default_memory"],
        "asparkle.core.payloads": ["remove_file", "write_file"],
        "asparkle.core.peers": ["Identity", "PeerServer", "connect_peer"],
        "asparkle.core.platforms": ["Platform"],
        "asparkle.core.protocol": ["MessageReader", "ToDriver", "ToExecutor", "encode"],
        "asparkle.core.readahead": ["Piece", "ReadAhead"],
        "asparkle.core.serializer": ["dumps", "loads", "map_file", "write_all"],
        "asparkle.core.shuffle.spill": ["read_into"],
        "asparkle.core.worker.channel": ["serve"],
        "asparkle.core.worker.mark": ["running_task"],
        "asparkle.core.worker.preload": ["preload"],
        "asparkle.core.worker.runtime": ["Worker"],
        "asparkle.core.workercluster": [
            "Channel",
            "ChannelExecutor",
            "SocketExecutor",
            "WorkerCluster",
            "worker_command",
        ],
        "asparkle.plugins.hookspecs": ["hookimpl"],
        "asparkle.plugins.reading": ["read_events"],
        "asparkle.plugins.replaying": ["Replayed", "replay"],
    },
)

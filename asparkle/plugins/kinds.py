"""What a plugin may provide: the hook that says so, what a name stands for there, and what makes a context use it."""

from __future__ import annotations

from typing import Any, Final

from asparkle.core import conf as keys
from asparkle.core.conf import ConfigKey
from asparkle.core.contracts import (
    FILE_SYSTEM,
    BlockStore,
    CachePolicy,
    ClusterManager,
    Codec,
    MetricSink,
    SchedulingPolicy,
    Serializer,
    ShuffleStore,
)
from asparkle.core.namedtuple import NamedTuple


class Kind(NamedTuple):
    """One hook.  ``used_by``: the key whose value has the name of what is used; `PLUGINS` where all that activated
    plugins provide is; None where what is installed is there without that."""

    hook: str
    what: str
    used_by: ConfigKey[Any] | None


COMMAND: Final = "command"
KINDS: dict[type | str, Kind] = {
    ClusterManager: Kind("asparkle_cluster_managers", "cluster manager", keys.MASTER),
    BlockStore: Kind("asparkle_block_stores", "block store", keys.DISK_STORE),
    CachePolicy: Kind("asparkle_cache_policies", "cache policy", keys.CACHE_POLICY),
    ShuffleStore: Kind("asparkle_shuffle_stores", "shuffle store", keys.SHUFFLE_STORE),
    Serializer: Kind("asparkle_serializers", "serializer", keys.SERIALIZER),
    Codec: Kind("asparkle_codecs", "codec", keys.PLUGINS),
    FILE_SYSTEM: Kind("asparkle_file_systems", "file system", keys.PLUGINS),
    SchedulingPolicy: Kind("asparkle_scheduling_policies", "scheduling policy", keys.SCHEDULER_MODE),
    MetricSink: Kind("asparkle_metric_sinks", "metric sink", keys.METRIC_SINKS),
    ConfigKey: Kind("asparkle_configuration", "configuration key", None),
    COMMAND: Kind("asparkle_commands", "command", None),
}
"""The hooks that give names, by what these stand for: a contract, or its path where another package defines it."""
LISTENERS: Final = Kind("asparkle_listeners", "listener", keys.PLUGINS)
JOB_PROPERTIES: Final = Kind("asparkle_job_properties", "job properties", keys.PLUGINS)
TASK_SCOPES: Final = Kind("asparkle_task_scopes", "task scope", keys.PLUGINS)
ALL: Final = (*KINDS.values(), LISTENERS, JOB_PROPERTIES, TASK_SCOPES)

"""The hooks: what a plugin may provide.

A plugin is a module (or an object) with functions of these names, marked ``@hookimpl``; it leaves out the
arguments that it does not need.  Hooks are for set-up: each is called at most once per context.  What
happens while jobs run goes over the bus, to listeners.

Where a class is asked for, ``"module:Class"`` may be given in its place, and is imported when it is used.
What runs in workers (stores, cache policies, serializers, codecs, file systems) must be importable there by that name.
Stores, cache policies and serializers are called with the application's `AppSpec`, scheduling policies and metric sinks
with the context's `SparkConf`: settings are read from ``app.settings`` or from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

from asparkle.core.conf import ConfigKey, SparkConf
from asparkle.core.contracts import (
    BlockStore,
    CachePolicy,
    ClusterManager,
    Codec,
    Listener,
    MetricSink,
    SchedulingPolicy,
    Serializer,
    ShuffleStore,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

hookspec = HookspecMarker("asparkle")
hookimpl = HookimplMarker("asparkle")


@hookspec
def asparkle_cluster_managers() -> Mapping[str, type[ClusterManager] | str]:  # type: ignore[empty-body]
    """Cluster managers by the scheme of their master URLs; used for a context whose master says ``scheme://``.

    The class is called without arguments; ``open(app)`` finds the whole URL in ``app.master``, and what is set of the
    plugin's keys in ``app.settings``.

    Example::

        @hookimpl
        def asparkle_cluster_managers():
            return {"slurm": "asparkle_slurm.manager:SlurmManager"}
    """


@hookspec
def asparkle_block_stores() -> Mapping[str, type[BlockStore] | str]:  # type: ignore[empty-body]
    """Block stores by name; loaded in workers when ``asparkle.store.disk`` names one.

    Example::

        @hookimpl
        def asparkle_block_stores():
            return {"redis": "asparkle_redis.store:RedisStore"}
    """


@hookspec
def asparkle_cache_policies() -> Mapping[str, type[CachePolicy] | str]:  # type: ignore[empty-body]
    """Cache policies by name; loaded in workers when ``asparkle.cache.policy`` names one.

    Example::

        @hookimpl
        def asparkle_cache_policies():
            return {"mru": "asparkle_mru:MRU"}
    """


@hookspec
def asparkle_scheduling_policies() -> Mapping[str, type[SchedulingPolicy] | str]:  # type: ignore[empty-body]
    """Scheduling policies by name; used when ``spark.scheduler.mode``, or a pool's ``schedulingMode``, has the name.

    Example::

        @hookimpl
        def asparkle_scheduling_policies():
            return {"SHORTEST": "asparkle_shortest:ShortestFirst"}
    """


@hookspec
def asparkle_shuffle_stores() -> Mapping[str, type[ShuffleStore] | str]:  # type: ignore[empty-body]
    """Shuffle stores by name; loaded in workers and in the driver when ``asparkle.store.shuffle`` names one.

    Example::

        @hookimpl
        def asparkle_shuffle_stores():
            return {"s3": "asparkle_s3:ObjectShuffleStore"}
    """


@hookspec
def asparkle_serializers() -> Mapping[str, type[Serializer] | str]:  # type: ignore[empty-body]
    """Serializers by name; loaded in workers and in the driver when ``asparkle.serializer`` names one.

    Example::

        @hookimpl
        def asparkle_serializers():
            return {"arrow": "asparkle_arrow:ArrowSerializer"}
    """


@hookspec
def asparkle_codecs() -> Mapping[str, type[Codec] | str]:  # type: ignore[empty-body]
    """Codecs by file-name extension, which begins with a dot and is in lower case, and by name; asked only of plugins
    that the context activates.

    A file whose name ends so is read with the codec.  ``compressionCodecClass`` takes the names, and the files that are
    written end with the first extension of the same class.  A name with a dot is that of a class of Hadoop's, which
    goes into SequenceFiles.

    Example::

        @hookimpl
        def asparkle_codecs():
            return {".br": "asparkle_brotli:Brotli", "brotli": "asparkle_brotli:Brotli"}
    """


@hookspec
def asparkle_file_systems() -> Mapping[str, type[AbstractFileSystem] | str]:  # type: ignore[empty-body]
    """File systems by the scheme of their URLs, in lower case, classes derived from fsspec's ``AbstractFileSystem``;
    asked only of plugins that the context activates, and then before what fsspec knows by itself.

    The class is called with the options that it finds in a URL, as fsspec does, and with what the configuration says as
    ``spark.hadoop.fs.SCHEME.NAME``, as arguments NAME with ``_`` for dots.

    Example::

        @hookimpl
        def asparkle_file_systems():
            return {"vault": "asparkle_vault:VaultFileSystem"}
    """


@hookspec
def asparkle_listeners(conf: SparkConf) -> Sequence[Listener]:  # type: ignore[empty-body]
    """Listeners for one context, new ones each time; asked only of plugins that the context activates.

    Example::

        @hookimpl
        def asparkle_listeners(conf):
            return [Tides(PHASE.read(conf))]  # a key that `asparkle_configuration` declares
    """


@hookspec
def asparkle_metric_sinks() -> Mapping[str, type[MetricSink] | str]:  # type: ignore[empty-body]
    """Metric sinks by name; made for a context whose ``asparkle.metrics.sinks`` has the name.

    Example::

        @hookimpl
        def asparkle_metric_sinks():
            return {"graphite": "asparkle_graphite:GraphiteSink"}
    """


@hookspec
def asparkle_job_properties(  # type: ignore[empty-body]
    conf: SparkConf,
) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """A function that gives each job of one context more local properties; asked only of plugins that it activates.

    It is called where a job is submitted, in the caller's context variables, with the properties that the job has;
    what it returns is added.  Tasks find them with ``TaskContext.getLocalProperty``, listeners in
    ``JobStarted.properties``.  Every job waits for it, on the event loop; what it raises, the job's caller gets, as a
    PluginError.

    Example::

        @hookimpl
        def asparkle_job_properties(conf):
            return lambda properties: {"request.id": request_id.get()}
    """


@hookspec
def asparkle_task_scopes() -> Sequence[str]:  # type: ignore[empty-body]
    """What surrounds each task attempt in workers, as ``"module:function"``; asked only of plugins that are activated.

    The function is called with the attempt's `TaskContext` as it begins, in the thread that runs it, and returns a
    context manager, which is left when the attempt has ended, however it has.  What it raises fails the attempt.

    Example::

        @hookimpl
        def asparkle_task_scopes():
            return ["asparkle_niceness:lowered"]
    """


@hookspec
def asparkle_configuration() -> Sequence[ConfigKey[Any]]:  # type: ignore[empty-body]
    """The configuration keys that a plugin reads.

    Their names begin with ``asparkle.`` or ``spark.`` and are nobody else's; by custom with ``asparkle.`` and the
    plugin's name.  In a context that uses the plugin, whether it activates it or has a name that it provides, what is
    set of them is parsed when the context is made, so that a bad value fails there; and so does a key that nobody
    declares, of a family (``asparkle.moon.``) of which asparkle itself has none.  ``KEY.read(conf)`` gives the parsed
    value, or that of the default.  ``asparkle conf`` lists them.

    Example::

        PHASE = ConfigKey("asparkle.moon.phase", "int", "a whole number", int, "0", "Days since the moon was new.")

        @hookimpl
        def asparkle_configuration():
            return [PHASE]
    """


@hookspec
def asparkle_commands() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Commands of the command line ``asparkle``, by name, as ``"module:function"``.

    ``asparkle NAME ...`` imports the function and calls it with the list of what stands behind the name; it returns
    the exit status, or None for 0.  ``asparkle --help`` shows the first line of its docstring.  Before that nothing is
    imported of it.

    Example::

        @hookimpl
        def asparkle_commands():
            return {"tides": "asparkle_moon.tides:main"}
    """

"""Plugins: found by name when needed and not before, activated per context, blocked by name, clear errors."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
import types
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

import pytest

from asparkle import JobFailed, SparkContext, TaskContext
from asparkle.core.conf import SparkConf
from asparkle.core.contracts import BlockStore, CachePolicy, ClusterManager, Listener, MetricSink, SchedulingPolicy
from asparkle.core.errors import ConfigurationError, PluginError
from asparkle.core.events import JobStarted
from asparkle.core.loading import load_class, load_function
from asparkle.core.masters import Master
from asparkle.core.unmet import unmet
from asparkle.plugins import API_VERSION, builtin, hookimpl, listeners
from asparkle.plugins.listeners import EventRecorder, LogListener
from asparkle.plugins.registry import PluginRegistry


class Moon(ClusterManager):
    def open(self, app):
        raise NotImplementedError


class NeedsMore(Moon):
    def __init__(self, size):
        self.size = size


class Tidal(CachePolicy):
    def touch(self, block):
        pass

    def forget(self, block):
        pass

    def victims(self):
        return ()


class Ears(Listener):
    def __init__(self, conf):
        self.conf = conf

    def on_event(self, event):
        pass


def plugin(name="moon", **hooks):
    """A module with these hooks."""
    module = types.ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, hookimpl(function) if callable(function) else function)
    return module


def moon_plugin(name="moon", target=Moon):
    return plugin(name, asparkle_cluster_managers=lambda: {"moon": target})


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with one entry point, as pip would: a module and its metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, source):
        (tmp_path / f"{name}_plugin.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[asparkle]\n{name} = {name}_plugin\n")
        monkeypatch.delitem(sys.modules, f"{name}_plugin", raising=False)

    return install


MOON = """
from asparkle.core.contracts import Listener
from asparkle.plugins import hookimpl
from asparkle.core.contracts import ClusterManager

class Moon(ClusterManager):
    def open(self, app): ...

class Ears(Listener):
    def on_event(self, event): ...

@hookimpl
def asparkle_cluster_managers():
    return {"moon": "moon_plugin:Moon"}

@hookimpl
def asparkle_cache_policies():
    return {"tidal": "moon_plugin:Tidal"}

@hookimpl
def asparkle_listeners(conf):
    return [Ears()]
"""


def conf(**values):
    return SparkConf().setAll([(key.replace("_", "."), value) for key, value in values.items()])


# ------------------------------------------------------------------------------------------------- built-ins


@pytest.mark.parametrize("scheme", builtin.asparkle_cluster_managers())
def test_builtin_masters_are_cluster_managers(scheme):
    assert isinstance(PluginRegistry(SparkConf()).cluster_manager(Master(scheme, 1)), ClusterManager)


def test_builtin_names_scan_no_entry_points_and_import_no_pluggy():
    script = (
        "import sys, importlib.metadata\n"
        "importlib.metadata.entry_points = None\n"
        "from asparkle.core.conf import SparkConf; from asparkle.core.contracts import CachePolicy\n"
        "from asparkle.core.masters import Master\n"
        "from asparkle.plugins.registry import PluginRegistry\n"
        "registry = PluginRegistry(SparkConf())\n"
        "registry.cluster_manager(Master('inline', 1)), registry.path(CachePolicy, 'lru'), registry.listeners()\n"
        "assert 'pluggy' not in sys.modules and 'structlog' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_names_list_what_is_known():
    registry = PluginRegistry(SparkConf(), [moon_plugin()])
    with pytest.raises(ConfigurationError, match=r"unknown master 'mars://x'.*local\[N\].*moon://\.\.\."):
        registry.cluster_manager(Master("mars", rest="x"))
    with pytest.raises(ConfigurationError, match="unknown cache policy 'mru': known are cost, fifo, lfu, lru"):
        registry.path(CachePolicy, "mru")
    with pytest.raises(ConfigurationError, match="unknown block store 'tape': known are disk"):
        registry.path(BlockStore, "tape")


# ---------------------------------------------------------------------------------- plugins of one context


def test_a_context_brings_its_own_plugins():
    assert isinstance(PluginRegistry(SparkConf(), [moon_plugin()]).cluster_manager(Master("moon")).manager, Moon)
    with pytest.raises(ConfigurationError):
        PluginRegistry(SparkConf()).cluster_manager(Master("moon"))


def test_classes_for_workers_are_given_by_path():
    tides = plugin(asparkle_cache_policies=lambda: {"tidal": Tidal, "mru": "x.y:Z"})
    registry = PluginRegistry(SparkConf(), [tides])
    assert registry.path(CachePolicy, "tidal") == f"{__name__}:Tidal"
    assert registry.path(CachePolicy, "mru") == "x.y:Z"


@pytest.mark.parametrize(
    ("hook", "contract"),
    [
        ("asparkle_cache_policies", CachePolicy),
        ("asparkle_block_stores", BlockStore),
    ],
)
@pytest.mark.parametrize("target", [dict, Moon])
def test_a_class_for_workers_meets_its_contract(hook, contract, target):
    registry = PluginRegistry(SparkConf(), [plugin(**{hook: lambda: {"bad": target}})])
    problem = f"plugin 'moon': {hook}: 'bad': .* is not a class derived from {contract.__name__}"
    with pytest.raises(PluginError, match=problem):
        registry.path(contract, "bad")


def test_a_class_for_workers_can_be_imported_there():
    class Hidden(Tidal):
        pass

    registry = PluginRegistry(SparkConf(), [plugin(asparkle_cache_policies=lambda: {"hidden": Hidden})])
    with pytest.raises(PluginError, match="can't be imported by workers: define it at its module's top level"):
        registry.path(CachePolicy, "hidden")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (f"{__name__}:Moon", "Moon'> is not a class derived from CachePolicy"),
        ("asparkle.core.conf:check_conf", "is not a class derived from CachePolicy"),
        (
            "no.such:Thing",
            "'no.such:Thing' can't be imported here: ModuleNotFoundError: No module named",
        ),
    ],
)
def test_a_path_is_checked_where_workers_load_it(path, problem):
    with pytest.raises(ConfigurationError, match=problem):
        load_class(path, CachePolicy)
    assert load_class(f"{__name__}:Tidal", CachePolicy) is Tidal


def test_listeners_get_the_configuration_and_keep_their_order():
    recorder = EventRecorder()
    settings = conf(asparkle_plugins="log")
    ears = plugin("ears", asparkle_listeners=lambda conf: [Ears(conf)])
    log, first, second = PluginRegistry(settings, [recorder, ears]).listeners()
    assert isinstance(log, LogListener)
    assert first is recorder
    assert second.conf is settings


def test_one_plugin_given_twice_counts_once():
    moon = plugin("moon", asparkle_listeners=lambda conf: [Ears(conf)])
    assert len(PluginRegistry(SparkConf(), [moon, moon]).listeners()) == 1
    log = SparkConf().set("asparkle.plugins", "log")
    assert len(PluginRegistry(log, ["log", listeners]).listeners()) == 1  # by configuration, by name, and as a module
    assert isinstance(PluginRegistry(SparkConf(), [moon_plugin(), EventRecorder()]).listeners()[0], EventRecorder)


def test_plugins_of_one_kind_are_told_apart():
    class Hearing:
        @hookimpl
        def asparkle_listeners(self, conf):
            return [Ears(self)]

    two = [Hearing(), Hearing()]
    assert [listener.conf for listener in PluginRegistry(SparkConf(), two).listeners()] == two


def test_a_listener_or_a_sink_given_twice_is_one():
    class Kept(MetricSink):
        def report(self, metrics):
            pass

    ears, kept = Ears(None), Kept()
    registry = PluginRegistry(SparkConf(), [ears, kept, ears, kept])
    assert registry.listeners()[-1:] == [ears]
    assert len(registry.listeners()) == len(PluginRegistry(SparkConf(), [kept]).listeners()) + 1


def test_a_listener_with_hooks_is_a_plugin_too():
    class Both(Ears):
        @hookimpl
        def asparkle_cluster_managers(self):
            return {"moon": Moon}

    both = Both(None)
    registry = PluginRegistry(SparkConf(), [both])
    assert registry.listeners() == [both]
    assert registry.cluster_manager(Master("moon"))


# --------------------------------------------------------------------------------------- installed plugins


def test_an_installed_plugin_is_found_by_its_scheme_and_otherwise_does_nothing(install):
    install("moon", MOON)
    registry = PluginRegistry(SparkConf())
    assert "moon_plugin" not in sys.modules
    assert type(registry.cluster_manager(Master("moon", rest="far")).manager).__name__ == "Moon"
    assert registry.path(CachePolicy, "tidal") == "moon_plugin:Tidal"
    assert registry.listeners() == []


def test_what_workers_load_of_a_package_is_known_with_its_version(install):
    install("moon", MOON)
    registry = PluginRegistry(SparkConf())
    registry.cluster_manager(Master("moon"))
    assert registry.packages() == ()
    registry.path(CachePolicy, "lru")
    assert registry.packages() == ()
    registry.path(CachePolicy, "tidal")
    assert registry.packages() == (("moon", "1.0"),)


def test_a_plugin_that_is_given_counts_as_its_package(install):
    """Whether it is the module, or an object of a class that the module defines."""
    install("moon", MOON + "class Plugin:\n    asparkle_cache_policies = hookimpl(lambda self: {'tidal': 'x:Tidal'})\n")
    import moon_plugin

    for given in (moon_plugin, moon_plugin.Plugin()):
        registry = PluginRegistry(SparkConf(), [given])
        registry.path(CachePolicy, "tidal")
        assert registry.packages() == (("moon", "1.0"),)
    registry = PluginRegistry(SparkConf(), [plugin(asparkle_cache_policies=lambda: {"tidal": Tidal})])
    registry.path(CachePolicy, "tidal")
    assert registry.packages() == ()


@pytest.mark.parametrize("arguments", [(conf(asparkle_plugins="moon"),), (SparkConf(), ["moon"])])
def test_an_activated_plugin_listens(install, arguments):
    install("moon", MOON)
    assert [type(listener).__name__ for listener in PluginRegistry(*arguments).listeners()] == ["Ears"]


@pytest.mark.parametrize("by", ["conf", "environment"])
def test_a_blocked_plugin_is_never_imported(install, monkeypatch, by):
    install("moon", MOON)
    settings = conf(asparkle_plugins_block="moon") if by == "conf" else SparkConf()
    if by == "environment":
        monkeypatch.setenv("ASPARKLE_PLUGINS_BLOCK", "other, moon")
    with pytest.raises(ConfigurationError, match="unknown master 'moon://'.*plugin 'moon' is blocked"):
        PluginRegistry(settings).cluster_manager(Master("moon"))
    with pytest.raises(PluginError, match="plugin 'moon': is blocked"):
        PluginRegistry(settings, ["moon"])
    assert "moon_plugin" not in sys.modules


def test_blocked_is_also_what_is_given(install, monkeypatch):
    install("moon", MOON)
    import moon_plugin

    monkeypatch.setenv("ASPARKLE_PLUGINS_BLOCK", "moon, Hidden, log")
    hidden = type("Hidden", (Ears,), {})(None)
    for name, given in [
        ("moon", plugin("moon", asparkle_codecs=lambda: {".moon": "x:Y"})),
        ("moon", moon_plugin),
        ("moon", moon_plugin.Ears()),
        ("Hidden", hidden),
        ("log", listeners),
    ]:
        with pytest.raises(PluginError, match=f"plugin '{name}': is blocked, by ASPARKLE_PLUGINS_BLOCK"):
            PluginRegistry(SparkConf(), [given])
    assert PluginRegistry(
        SparkConf(), [plugin("mars", asparkle_codecs=lambda: {".moon": "x:Y"}), Ears(None)]
    ).listeners()


def test_a_broken_installed_plugin_harms_only_who_wants_it(install):
    install("moon", MOON)
    install("bad", "import no_such_module")
    registry = PluginRegistry(SparkConf())
    assert registry.cluster_manager(Master("moon"))
    assert list(registry.broken) == ["bad"]
    with pytest.raises(ConfigurationError, match="unknown master 'mars://'.*plugin 'bad': failed to import"):
        registry.cluster_manager(Master("mars"))
    with pytest.raises(PluginError, match="plugin 'bad': failed to import 'bad_plugin': ModuleNotFoundError"):
        PluginRegistry(SparkConf(), ["bad"])


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "def __getattr__(name): raise OSError(name)",
        "def __getattr__(name): exit(3)",
        "import no_such_module",
    ],
)
def test_one_that_breaks_in_any_way_is_named_and_harms_nobody_else(install, source):
    install("moon", MOON)
    install("bad", source)
    assert PluginRegistry(SparkConf()).cluster_manager(Master("moon"))
    with pytest.raises(PluginError, match="plugin 'bad': "):
        PluginRegistry(SparkConf(), ["bad"])


def test_two_packages_with_one_name_for_a_plugin_are_both_named(install, tmp_path):
    install("moon", MOON)
    install("luna", MOON.replace("moon", "luna"))
    (tmp_path / "luna-1.0.dist-info" / "entry_points.txt").write_text("[asparkle]\nmoon = luna_plugin\n")
    both = r"is the name of several entry points: luna \(luna_plugin\) and moon \(moon_plugin\); uninstall all but one"
    with pytest.raises(PluginError, match=f"plugin 'moon': {both}"):
        PluginRegistry(SparkConf(), ["moon"])
    with pytest.raises(ConfigurationError, match=f"unknown master 'moon://'.*{both}"):
        PluginRegistry(SparkConf()).cluster_manager(Master("moon"))
    assert not {"moon_plugin", "luna_plugin"} & sys.modules.keys()


def test_a_plugin_that_is_not_installed_is_named_with_those_that_are(install):
    install("moon", MOON)
    with pytest.raises(PluginError, match="plugin 'mon': is not installed.*known: .*log.*moon"):
        PluginRegistry(conf(asparkle_plugins="mon"))


# ----------------------------------------------------------------------------------------- wrong plugins

WRONG = {
    "taken by asparkle": (
        plugin(asparkle_cluster_managers=lambda: {"threads": Moon}),
        "'threads' is already provided by asparkle itself",
    ),
    "no dict": (plugin(asparkle_cluster_managers=lambda: [Moon]), "expected a dict of names to classes"),
    "no class": (plugin(asparkle_block_stores=lambda: {"x": 3}), "{'x': 3}: expected a name and a class"),
    "no path": (plugin(asparkle_block_stores=lambda: {"x": "module"}), "a class or 'module:Class'"),
    "raises": (
        plugin(asparkle_cache_policies=lambda: {}["x"]),
        "asparkle_cache_policies raised KeyError: 'x'",
    ),
    "unknown hook": (plugin(asparkle_moons=lambda: {"x": Moon}), "unknown hook 'asparkle_moons'"),
    "unknown argument": (plugin(asparkle_listeners=lambda conf, moon: []), "moon"),
    "no hook": (plugin(), "has no hook: mark its functions with asparkle.plugins.hookimpl"),
    "a class": (Moon, "is a class: give an instance"),
    "no scheme": (plugin(asparkle_cluster_managers=lambda: {"Moon": Moon}), "'Moon' is no scheme: expected lower-case"),
    "a URL": (plugin(asparkle_cluster_managers=lambda: {"moon://": Moon}), "'moon://' is no scheme"),
    "another version": (
        plugin(ASPARKLE_API_VERSION=API_VERSION + 1),
        "was written for API version 2, this is 1",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_plugin_says_what_is_wrong(wrong):
    module, problem = WRONG[wrong]
    with pytest.raises(PluginError) as caught:
        PluginRegistry(SparkConf(), [module])
    assert problem in str(caught.value)
    assert caught.value.plugin in ("moon", "Moon")


def leave(*arguments):
    raise SystemExit("bye")


@pytest.mark.parametrize(
    ("hooks", "settings", "problem"),
    [
        ({"asparkle_codecs": leave}, {}, "asparkle_codecs raised SystemExit: bye"),
        ({"asparkle_listeners": leave}, {}, "asparkle_listeners raised SystemExit: bye"),
        (
            {"asparkle_metric_sinks": lambda: {"x": type("Sink", (MetricSink,), {"__init__": leave, "report": leave})}},
            {"asparkle_metrics_sinks": "x"},
            "Sink could not be made: SystemExit: bye",
        ),
        (
            {
                "asparkle_scheduling_policies": lambda: {
                    "X": type("P", (SchedulingPolicy,), {"__init__": leave, "rank": leave})
                }
            },
            {"spark_scheduler_mode": "X"},
            "P could not be made: SystemExit: bye",
        ),
    ],
)
def test_a_plugin_that_exits_ends_no_host(hooks, settings, problem):
    with pytest.raises(PluginError, match=f"plugin 'moon': .*{problem}"):
        SparkContext("inline", conf=conf(**settings), plugins=[plugin(**hooks)])


def test_an_installed_plugin_whose_hook_exits_harms_nobody(install):
    install("bad", "from asparkle.plugins import hookimpl\n@hookimpl\ndef asparkle_codecs(): raise SystemExit(3)")
    install("moon", MOON)
    registry = PluginRegistry(SparkConf())
    assert registry.cluster_manager(Master("moon"))
    assert "asparkle_codecs raised SystemExit: 3" in str(registry.broken["bad"])


def test_two_plugins_with_one_scheme():
    with pytest.raises(PluginError, match="plugin 'luna': .*'moon' is already provided by moon"):
        PluginRegistry(SparkConf(), [moon_plugin(), moon_plugin("luna")])


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no.such:Thing", "'moon': 'no.such:Thing' can't be imported here: ModuleNotFoundError: No module named"),
        ("asparkle.core.conf:Nothing", "can't be imported here"),
        (".:Thing", "'moon': '.:Thing' can't be imported here: TypeError"),
        (NeedsMore, "'moon': NeedsMore could not be made: TypeError: .*missing 1 required"),
        (Ears, "is not a class derived from ClusterManager"),
    ],
)
def test_a_manager_that_cannot_be_used_says_why(target, problem):
    registry = PluginRegistry(SparkConf(), [moon_plugin(target=target)])
    with pytest.raises(PluginError, match=problem):
        registry.cluster_manager(Master("moon"))


def test_a_sink_that_can_not_be_made_is_named():
    class Clogged(MetricSink):
        def __init__(self):
            pass

        def report(self, metrics):
            pass

    clogged = plugin(asparkle_metric_sinks=lambda: {"clogged": Clogged})
    with pytest.raises(
        PluginError, match="plugin 'moon': asparkle_metric_sinks: 'clogged': .*Clogged could not be made"
    ):
        PluginRegistry(conf(asparkle_metrics_sinks="clogged"), [clogged])


@pytest.mark.parametrize("returned", [3, [3], Ears])
def test_a_wrong_listener_says_what_is_expected(returned):
    registry = PluginRegistry(SparkConf(), [plugin(asparkle_listeners=lambda: returned)])
    with pytest.raises(PluginError, match="expected a list of Listener objects"):
        registry.listeners()


# ------------------------------------------------------------------------------------ listeners on board


def test_the_log_listener_logs_type_and_fields(caplog):
    caplog.set_level(logging.INFO, "asparkle")
    LogListener().on_event(PluginEvent(1, "x"))
    assert caplog.messages == ["PluginEvent: job=1 name='x'"]


def test_the_logs_go_to_structlog_where_the_host_has_configured_it(caplog):
    import structlog

    capture = structlog.testing.LogCapture()
    structlog.configure(processors=[capture])
    try:
        LogListener().on_event(PluginEvent(1, "x"))
    finally:
        structlog.reset_defaults()
    assert capture.entries == [{"event": "PluginEvent", "job": 1, "name": "x", "log_level": "info"}]
    assert not caplog.messages


@dataclass
class PluginEvent:
    KIND: ClassVar[int] = 1

    job: int
    name: str


# ------------------------------------------------------------------------------------- from end to end


def test_a_job_runs_on_a_cluster_manager_from_a_plugin_which_sees_its_url():
    from asparkle import SparkContext
    from asparkle.backends.threads import ThreadsManager

    urls = []

    class Far(ThreadsManager):
        def open(self, app):
            urls.append(app.master)
            return super().open(app)

    with SparkContext("moon://far", "apollo", plugins=[moon_plugin(target=Far)]) as sc:
        assert sc.parallelize(range(5)).sum() == 10
    assert urls == ["moon://far"]


COUNTING = """
import os

from asparkle.backends.disk import DiskStore
from asparkle.plugins import hookimpl

class CountingStore(DiskStore):
    def __init__(self, directories):
        super().__init__(directories)
        self.count = os.path.join(os.path.dirname(__file__), f"{os.getpid()}.puts")

    def put(self, block, chunks):
        with open(self.count, "ab") as file:
            file.write(b".")
        return super().put(block, chunks)

@hookimpl
def asparkle_block_stores():
    return {"counting": "counting_plugin:CountingStore"}
"""


def test_a_persisted_rdd_is_kept_in_a_store_from_a_plugin(install, tmp_path):
    from asparkle import SparkContext, StorageLevel

    install("counting", COUNTING)
    with SparkContext("processes[2]", conf=conf(asparkle_store_disk="counting")) as sc:
        kept = sc.parallelize(range(8), 4).map(lambda x: x * x).persist(StorageLevel.DISK_ONLY)
        assert kept.sum() == kept.sum() == 140
    puts = list(tmp_path.glob("*.puts"))
    assert sum(file.stat().st_size for file in puts) == 4  # put once, then read
    assert str(os.getpid()) not in [file.stem for file in puts]


# ------------------------------------------------------------------------ properties of jobs, scopes of tasks

request_id: ContextVar[str] = ContextVar("request_id", default="none")
MASTERS = ["inline", "threads[2]", "processes[2]"]
SCOPE = """
from contextlib import contextmanager
from asparkle import TaskContext

begun, ended = [], []

@contextmanager
def noted(context):
    assert TaskContext.get() is context
    begun.append(context.getLocalProperty("request.id"))
    try:
        yield
    finally:
        ended.append(context.taskAttemptId())
"""


def requests(conf):
    return lambda properties: {"request.id": f"{properties.get('prefix', '')}{request_id.get()}"}


@pytest.mark.parametrize("master", MASTERS)
def test_a_plugin_gives_each_job_properties_where_it_is_submitted(master):
    recorder = EventRecorder(JobStarted)

    def told(_):
        return TaskContext.get().getLocalProperty("request.id")

    with SparkContext(master, plugins=[plugin(asparkle_job_properties=requests), recorder]) as sc:
        rdd = sc.parallelize([1], 1).map(told)
        token = request_id.set("7")
        assert rdd.collect() == ["7"]
        request_id.reset(token)
        sc.setLocalProperty("prefix", "a-")
        assert rdd.collect() == ["a-none"]
        assert sc.getLocalProperty("request.id") is None  # it is the job's
    assert [job.properties for job in recorder.recorded] == [
        {"request.id": "7"},
        {"prefix": "a-", "request.id": "a-none"},
    ]


@pytest.mark.parametrize(
    "function, problem",
    [
        (lambda before: 1 / 0, "the function of asparkle_job_properties raised ZeroDivisionError: division by zero"),
        (lambda before: {"a": 1}, "the function of asparkle_job_properties returned {'a': 1}: expected a dict of str"),
        (lambda before: None, "the function of asparkle_job_properties returned None: expected a dict of strings"),
    ],
)
def test_bad_properties_of_jobs_name_their_plugin(function, problem):
    with SparkContext("inline", plugins=[plugin("tracer", asparkle_job_properties=lambda conf: function)]) as sc:
        with pytest.raises(PluginError, match=f"^plugin 'tracer': {re.escape(problem)}"):
            sc.parallelize([1]).count()


@pytest.mark.parametrize("master", MASTERS)
def test_a_plugins_scope_surrounds_each_task_attempt(master, tmp_path, monkeypatch):
    name = f"scope_{master[:4]}"
    (tmp_path / f"{name}.py").write_text(SCOPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    around = plugin(asparkle_task_scopes=lambda: [f"{name}:noted"], asparkle_job_properties=requests)

    def noted(fail):
        module = importlib.import_module(name)
        tid = TaskContext.get().taskAttemptId()
        assert module.begun and tid not in module.ended
        assert not fail
        return len(module.begun), len(module.ended)

    with SparkContext(master.replace("2", "1"), plugins=[around]) as sc:
        assert sc.parallelize([False], 1).map(noted).collect() == [(1, 0)]
        with pytest.raises(JobFailed):
            sc.parallelize([True], 1).map(noted).collect()
        attempts = 1 if master == "inline" else 4
        (begun, ended) = sc.parallelize([False], 1).map(noted).first()
        assert begun == ended + 1 and ended >= attempts  # also where the attempt failed


@pytest.mark.parametrize("master", MASTERS)
def test_a_scope_that_fails_keeps_no_other_from_being_left(master, tmp_path, monkeypatch):
    name = f"failing_scope_{master[:4]}"
    failing = "@contextmanager\ndef failing(context):\n    yield\n    if not ended: raise OSError('at the end')\n"
    (tmp_path / f"{name}.py").write_text(SCOPE + failing)
    monkeypatch.syspath_prepend(str(tmp_path))
    around = plugin(asparkle_task_scopes=lambda: [f"{name}:noted", f"{name}:failing"])

    with SparkContext(master.replace("2", "1"), plugins=[around]) as sc:
        rdd = sc.parallelize([1], 1).map(lambda _: len(importlib.import_module(name).ended))
        assert rdd.collect() == [1]  # the first attempt failed, and was left by both


@pytest.mark.parametrize(
    "hooks, problem",
    [
        ({"asparkle_job_properties": lambda conf: 5}, "returned 5: expected a function of a job's properties"),
        ({"asparkle_task_scopes": lambda: ["noted"]}, "returned ['noted']: expected a list of 'module:function'"),
        ({"asparkle_task_scopes": lambda: [print]}, "expected a list of 'module:function'"),
    ],
)
def test_what_is_no_function_and_no_scope_is_refused(hooks, problem):
    with pytest.raises(PluginError, match=re.escape(problem)):
        SparkContext("inline", plugins=[plugin(**hooks)])


def test_scopes_that_workers_cannot_load_are_named():
    with pytest.raises(ConfigurationError, match="'no_such_module:scope' can't be imported"):
        load_function("no_such_module:scope")
    with pytest.raises(ConfigurationError, match="'os:sep' is '/': expected a function"):
        load_function("os:sep")


@dataclass
class Unmet:
    methods: dict[str, object]
    problem: str


UNMET = [
    Unmet({"victims": None}, r"Half lacks CachePolicy.victims\(\), \"The blocks of the store, each once"),
    Unmet({"touch": lambda self: None}, r"can't be called as CachePolicy.touch\(block\), \"`?`?block`?`? was stored"),
    Unmet({"forget": 3}, r"Half.forget is 3: expected CachePolicy.forget\(block\)"),
]


@pytest.mark.parametrize("case", UNMET, ids=lambda case: next(iter(case.methods)))
def test_what_a_class_lacks_of_its_contract_is_named(case):
    methods = {"touch": Tidal.touch, "forget": Tidal.forget, "victims": Tidal.victims} | case.methods
    half = type("Half", (CachePolicy,), {name: method for name, method in methods.items() if method is not None})
    registry = PluginRegistry(SparkConf(), [plugin(asparkle_cache_policies=lambda: {"half": half})])
    with pytest.raises(PluginError, match="plugin 'moon': asparkle_cache_policies: 'half': Half.*" + case.problem[4:]):
        registry.path(CachePolicy, "half")


def test_methods_that_need_no_object_meet_a_contract():
    class Free(CachePolicy):
        @staticmethod
        def touch(block):
            pass

        @staticmethod
        def forget(block):
            pass

        @classmethod
        def victims(cls):
            return ()

    assert unmet(Free, CachePolicy) == ""
    Free.touch = staticmethod(lambda: None)
    assert unmet(Free, CachePolicy).startswith(
        f"{Free.__qualname__}.touch() can't be called as CachePolicy.touch(block)"
    )

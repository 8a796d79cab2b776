"""Keys and commands that plugins bring: whose they may be, when they are checked, what is wrong with them."""

from __future__ import annotations

import re
import sys

import pytest
from test_plugins import Ears, conf, plugin

from asparkle import SparkConf, SparkContext
from asparkle.core.contracts import MetricSink
from asparkle.errors import ConfigurationError, PluginError
from asparkle.plugins import ConfigKey, hookimpl
from asparkle.plugins.registry import PluginRegistry


def phase(name="asparkle.moon.phase", default="0"):
    return ConfigKey(name, "int", "a whole number", int, default, "Days since the moon was new.")


def with_keys(*keys, name="moon", **hooks):
    return plugin(name, asparkle_configuration=lambda: [*keys], **hooks)


class Tides(MetricSink):
    def __init__(self, conf):
        self.phase = phase().read(conf)

    def report(self, metrics):
        pass


# --------------------------------------------------------------------------------------------------- keys


def test_the_values_of_a_plugins_keys_are_checked_when_a_context_is_made():
    with pytest.raises(ConfigurationError, match="asparkle.moon.phase = 'full': expected a whole number"):
        SparkContext("inline", conf=conf(asparkle_moon_phase="full"), plugins=[with_keys(phase())])
    with SparkContext("inline", conf=conf(asparkle_moon_phase="14"), plugins=[with_keys(phase())]) as sc:
        assert phase().read(sc.getConf()) == 14


def test_a_key_that_nobody_declares_is_refused_where_the_family_is_a_plugins():
    with pytest.raises(
        ConfigurationError, match="unknown key asparkle.moon.fase of plugin 'moon': known are asparkle.moon.phase"
    ):
        PluginRegistry(conf(asparkle_moon_fase="14"), [with_keys(phase())])


def test_a_key_in_a_family_of_asparkles_leaves_the_others_alone():
    settings = conf(asparkle_metrics_moon="14", asparkle_metrics_other="x")
    registry = PluginRegistry(settings, [with_keys(phase("asparkle.metrics.moon"))])
    assert registry.keys()["asparkle.metrics.moon"][0] == "moon"


def test_two_plugins_may_share_a_family():
    two = with_keys(phase("asparkle.moon.age"), name="luna")
    settings = conf(asparkle_moon_phase="1", asparkle_moon_age="2")
    assert PluginRegistry(settings, [with_keys(phase()), two]).keys().keys() == {
        "asparkle.moon.phase",
        "asparkle.moon.age",
    }


def test_one_packages_plugins_may_share_a_key():
    key = phase()
    registry = PluginRegistry(conf(asparkle_moon_phase="1"), [with_keys(key), with_keys(key, name="luna")])
    assert registry.keys() == {"asparkle.moon.phase": ("moon", key)}


SOURCE = """
from asparkle.plugins import ConfigKey, MetricSink, hookimpl

PHASE = ConfigKey("asparkle.moon.phase", "int", "a whole number", int, "0", "Days since the moon was new.")

class Tides(MetricSink):
    def __init__(self, conf):
        PHASE.read(conf)

    def report(self, metrics): ...

@hookimpl
def asparkle_configuration():
    return [PHASE]

@hookimpl
def asparkle_metric_sinks():
    return {"tides": Tides}
"""


def test_keys_of_an_installed_plugin_count_once_one_of_its_names_is_used(install_moon):
    bad = {"asparkle_moon_phase": "full"}
    PluginRegistry(conf(**bad))  # nobody uses it
    assert "moon_plugin" not in sys.modules
    with pytest.raises(ConfigurationError, match="asparkle.moon.phase = 'full'"):
        PluginRegistry(conf(asparkle_metrics_sinks="tides", **bad))
    with pytest.raises(ConfigurationError, match="unknown key asparkle.moon.fase of plugin 'moon'"):
        PluginRegistry(conf(asparkle_metrics_sinks="tides", asparkle_moon_fase="3"))


@pytest.fixture
def install_moon(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "moon_plugin.py").write_text(SOURCE)
    info = tmp_path / "moon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[asparkle]\nmoon = moon_plugin\n")
    monkeypatch.delitem(sys.modules, "moon_plugin", raising=False)


def test_settings_are_those_of_the_plugins_in_use(install_moon):
    settings = conf(asparkle_moon_phase="3", asparkle_sun_spots="7", asparkle_mars_moons="2", spark_app_name="x")
    sun = with_keys(phase("asparkle.sun.spots"), phase("asparkle.sun.flares"), name="sun")
    assert PluginRegistry(settings, [sun]).settings() == {"asparkle.sun.spots": "7"}
    used = PluginRegistry(settings.set("asparkle.metrics.sinks", "tides"))
    assert used.settings() == {"asparkle.moon.phase": "3"}


def test_a_key_that_plugins_share_is_a_setting_of_each():
    key = phase()
    registry = PluginRegistry(conf(asparkle_moon_phase="1"))
    registry._register(with_keys(key), "moon")
    registry._activate(with_keys(key, name="luna"))
    registry._use("luna")
    assert registry.settings() == {"asparkle.moon.phase": "1"}


SETTINGS = """
import os
from asparkle.plugins import ConfigKey, hookimpl, loads, dumps
from asparkle.plugins import BlockStore, CachePolicy, SchedulingPolicy, Serializer, ShuffleStore
from asparkle.backends.disk import DiskStore
from asparkle.backends.shufflefiles import FileShuffleStore
from asparkle.plugins.cachepolicies import LRU
from asparkle.plugins.serializers import Pickle

PHASE = ConfigKey("asparkle.moon.phase", "int", "a whole number", int, "0", "Days since the moon was new.")
NOTES = ConfigKey("asparkle.moon.notes", "path", "a path", str, None, "Where it is noted.")

class Noting:
    def __init__(self, given):
        super().__init__(given)
        settings = given if hasattr(given, "getAll") else given.settings
        path = os.path.join(NOTES.read(settings), f"{type(self).__name__}-{os.getpid()}")
        with open(path, "w") as file:
            file.write(str(PHASE.read(settings)))

class Policy(Noting, LRU): ...
class Store(Noting, DiskStore): ...
class Shuffles(Noting, FileShuffleStore): ...
class Bytes(Noting, Pickle): ...

class Order(Noting, SchedulingPolicy):
    def rank(self, tasks):
        return ()

@hookimpl
def asparkle_configuration(): return [PHASE, NOTES]
@hookimpl
def asparkle_cache_policies(): return {"moon": Policy}
@hookimpl
def asparkle_block_stores(): return {"moon": Store}
@hookimpl
def asparkle_shuffle_stores(): return {"moon": Shuffles}
@hookimpl
def asparkle_serializers(): return {"moon": Bytes}
@hookimpl
def asparkle_scheduling_policies(): return {"MOON": Order}
"""


@pytest.mark.parametrize("master", ["processes[1]", "threads[1]"])
def test_whatever_a_plugin_provides_reads_its_settings_where_it_is_made(master, tmp_path, monkeypatch):
    (tmp_path / "settled_moon.py").write_text(SETTINGS)
    (tmp_path / "notes").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    import settled_moon

    names = ["cache.policy", "store.disk", "store.shuffle", "serializer"]
    settings = SparkConf().setAll((f"asparkle.{name}", "moon") for name in names)
    settings.set("spark.scheduler.mode", "MOON").set("asparkle.moon.phase", 14)
    settings.set("asparkle.moon.notes", tmp_path / "notes").set("spark.shuffle.sort.bypassMergeThreshold", "0")
    with SparkContext(master, conf=settings, plugins=[settled_moon]) as sc:
        pairs = sc.parallelize(range(4), 2).map(lambda x: (x, "x" * 100_000))
        assert len(pairs.partitionBy(2).collect()) == 4
    notes = {path.name.partition("-")[0]: path.read_text() for path in (tmp_path / "notes").iterdir()}
    assert notes == dict.fromkeys(["Policy", "Store", "Shuffles", "Bytes", "Order"], "14")


WRONG_KEYS = {
    "no list": (phase(), " returned <.*>: expected a list of ConfigKey objects"),
    "no keys": (["asparkle.moon.phase"], "expected a list of ConfigKey objects"),
    "no prefix": (
        [phase("moon.phase")],
        "'moon.phase' begins with neither asparkle. nor spark., .*asparkle.moon.phase",
    ),
    "asparkle's": ([phase("spark.task.cpus")], "'spark.task.cpus' is a key of asparkle itself"),
    "asparkle's family": ([phase("spark.executorEnv.MOON")], "'spark.executorEnv.MOON' is a key of asparkle itself"),
    "bad default": (
        [phase(default="full")],
        "the default of a key is bad: asparkle.moon.phase = 'full': expected a wh",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_wrong_keys_name_the_plugin_and_the_hook(wrong):
    returned, problem = WRONG_KEYS[wrong]
    with pytest.raises(PluginError, match=f"^plugin 'moon': asparkle_configuration.*{problem}"):
        PluginRegistry(SparkConf(), [plugin(asparkle_configuration=lambda: returned)])


def test_two_plugins_with_one_key():
    with pytest.raises(PluginError, match="plugin 'luna': .*'asparkle.moon.phase' is already provided by moon"):
        PluginRegistry(SparkConf(), [with_keys(phase()), with_keys(phase(), name="luna")])


# ----------------------------------------------------------------------------------------------- commands

WRONG_COMMANDS = {
    "asparkle's": ({"run": "moon:main"}, "'run' is already provided by asparkle itself"),
    "no dict": (["tides"], "returned ['tides']: expected a dict of names to 'module:function'"),
    "no path": ({"tides": "moon"}, "{'tides': 'moon'}: expected a name and 'module:function'"),
    "a function": ({"tides": print}, "expected a name and 'module:function'"),
    "an option": ({"--tides": "moon:main"}, "'--tides' can't be the name of a command"),
    "two words": ({"high tides": "moon:main"}, "'high tides' can't be the name of a command"),
}


@pytest.mark.parametrize("wrong", WRONG_COMMANDS)
def test_wrong_commands_name_the_plugin_and_the_hook(wrong):
    returned, problem = WRONG_COMMANDS[wrong]
    with pytest.raises(PluginError, match=f"^plugin 'moon': asparkle_commands.*{re.escape(problem)}"):
        PluginRegistry(SparkConf(), [plugin(asparkle_commands=lambda: returned)])


def test_two_plugins_with_one_command():
    def tides(name):
        return plugin(name, asparkle_commands=lambda: {"tides": f"{name}:main"})

    with pytest.raises(PluginError, match="plugin 'luna': asparkle_commands: 'tides' is already provided by moon"):
        PluginRegistry(SparkConf(), [tides("moon"), tides("luna")])


def test_a_plugin_that_is_refused_leaves_nothing_behind():
    class Both:
        @hookimpl
        def asparkle_configuration(self):
            return [phase()]

        @hookimpl
        def asparkle_commands(self):
            return {"run": "moon:main"}

        @hookimpl
        def asparkle_listeners(self, conf):
            return [Ears(conf)]

    registry = PluginRegistry(SparkConf())
    with pytest.raises(PluginError):
        registry._activate(Both())
    assert (registry.keys(), registry.commands(), registry.listeners()) == ({}, {}, [])

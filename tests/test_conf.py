"""SparkConf behaves as PySpark's; the table gives known keys types, defaults and clear errors."""

from __future__ import annotations

import pytest

from asparkle.core import conf as keys
from asparkle.core.conf import (
    EXECUTOR_ENV,
    KEYS,
    SparkConf,
    check_conf,
    parse_bytes,
    parse_seconds,
    scheduler_conf,
    settings_below,
)
from asparkle.core.errors import ArgumentError, ArgumentTypeError, ConfigurationError
from asparkle.core.scheduler.messages import SchedulerConf
from asparkle.plugins.registry import PluginRegistry
from asparkle.plugins.schedulingpolicies import FAIR, FIFO

# ---------------------------------------------------------------------------------------------- SparkConf


def test_setters_chain_and_getters_give_text():
    conf = SparkConf().setMaster("local[2]").setAppName("words").setSparkHome("/home").set("spark.task.cpus", 2)
    assert conf.get("spark.master") == "local[2]"
    assert conf.get("spark.app.name") == "words"
    assert conf.get("spark.home") == "/home"
    assert conf.get("spark.task.cpus") == "2"


def test_a_key_that_was_not_set_is_none_or_the_default_given():
    conf = SparkConf(loadDefaults=False)
    assert conf.get("spark.task.maxFailures") is None
    assert conf.get("spark.task.maxFailures", "7") == "7"
    assert not conf.contains("spark.task.maxFailures")


def test_set_if_missing_keeps_what_is_there():
    conf = SparkConf().set("a", "1").setIfMissing("a", "2").setIfMissing("b", "3")
    assert conf.getAll() == [("a", "1"), ("b", "3")]


def test_set_all_takes_pairs_of_the_tutorial():
    conf = SparkConf().setAll([("spark.cores.max", "4"), ("spark.executor.memory", "1g")])
    assert sorted(conf.getAll()) == [("spark.cores.max", "4"), ("spark.executor.memory", "1g")]
    check_conf(conf)


def test_executor_environment_by_pair_and_by_list():
    conf = SparkConf().setExecutorEnv("A", "1").setExecutorEnv(pairs=[("B", "2"), ("C", "3")])
    assert conf.get("spark.executorEnv.A") == "1"
    assert settings_below(conf, EXECUTOR_ENV) == {"A": "1", "B": "2", "C": "3"}


@pytest.mark.parametrize("arguments", [{}, {"key": "A", "pairs": [("B", "2")]}])
def test_executor_environment_needs_one_of_both(arguments):
    with pytest.raises(ArgumentError, match="either key and value, or pairs"):
        SparkConf().setExecutorEnv(**arguments)


def test_debug_string_is_sorted():
    assert SparkConf().set("b", 1).set("a", 2).toDebugString() == "a=2\nb=1"


def test_a_clone_shares_nothing():
    conf = SparkConf().set("a", 1)
    copy = conf.clone().set("a", 2)
    assert (conf.get("a"), copy.get("a")) == ("1", "2")


def test_none_is_no_value():
    with pytest.raises(ArgumentTypeError, match="spark.x = None"):
        SparkConf().set("spark.x", None)


# --------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_default_is_a_value_of_its_key(key):
    key.read(SparkConf())
    if key.default is not None:
        assert key.read(SparkConf().set(key.name, key.default)) == key.read(SparkConf())
    assert key.doc.endswith(".")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [("512m", "b", 2**29), ("1g", "m", 2**30), ("1GB", "b", 2**30), ("64", "m", 2**26), (" 10 ", "b", 10)],
)
def test_sizes(text, unit, value):
    assert parse_bytes(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3s", "ms", 3),
        ("100ms", "s", 0.1),
        ("1500", "ms", 1.5),
        ("2", "s", 2),
        ("2h", "s", 7200),
        ("5min", "s", 300),
    ],
)
def test_durations(text, unit, value):
    assert parse_seconds(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("spark.task.maxFailures", "four", "a whole number, 1 or more"),
        ("spark.task.maxFailures", "0", "a whole number, 1 or more"),
        ("spark.speculation", "maybe", "true or false"),
        ("spark.executor.memory", "1.5g", "a size such as 512m or 1g (a bare number: MiB)"),
        ("spark.driver.maxResultSize", "-1", "a size such as"),
        ("spark.locality.wait", "soon", "a duration such as 3s or 100ms (a bare number: milliseconds)"),
        ("spark.memory.fraction", "1.1", "a number from 0 to 1"),
        ("spark.speculation.multiplier", "nan", "a number, 1 or more"),
        ("spark.default.parallelism", "0", "a whole number, 1 or more"),
    ],
)
def test_a_bad_value_names_key_value_and_what_is_expected(name, value, expected):
    with pytest.raises(ConfigurationError) as caught:
        check_conf(SparkConf().set(name, value))
    assert str(caught.value).startswith(f"{name} = {value!r}: expected {expected}")
    assert isinstance(caught.value, ValueError)


def test_unknown_keys_are_kept_silently():
    conf = SparkConf().set("spark.no.such.key", "x").set("mine", "y")
    check_conf(conf)
    assert conf.get("mine") == "y"


def test_python_booleans_and_lists():
    assert keys.SPECULATION.read(SparkConf().set("spark.speculation", True)) is True
    assert keys.LOCAL_DIR.read(SparkConf().set("spark.local.dir", "/a, /b,")) == ("/a", "/b")
    assert keys.LOCAL_DIR.read(SparkConf()) == ()


# ------------------------------------------------------------------------------------- scheduler settings


def scheduler_settings(conf, **more):
    return scheduler_conf(conf, PluginRegistry(conf).scheduling_policy, **more)


def test_the_schedulers_defaults_are_the_tables():
    parsed = scheduler_settings(SparkConf())
    assert type(parsed.policy) is FIFO
    assert parsed._replace(policy=None) == SchedulerConf()


def test_settings_reach_the_scheduler():
    conf = SparkConf().setAll(
        [
            ("spark.scheduler.mode", "fair"),
            ("spark.locality.wait", "1s"),
            ("spark.excludeOnFailure.enabled", True),
        ]
    )
    parsed = scheduler_settings(conf, max_failures=1)
    assert (type(parsed.policy), parsed.locality_wait, parsed.exclude, parsed.max_failures) == (FAIR, 1.0, True, 1)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ConfigurationError, match="unknown scheduling policy 'LIFO': known are FAIR, FIFO"):
        scheduler_settings(SparkConf().set("spark.scheduler.mode", "LIFO"))


def test_pools_come_from_a_toml_file(tmp_path):
    file = tmp_path / "pools.toml"
    file.write_text('[pool.production]\nschedulingMode = "FAIR"\nweight = 2\nminShare = 3\n[pool.test]\n')
    parsed = scheduler_settings(SparkConf().set("spark.scheduler.allocation.file", file))
    pools = {name: (type(policy), *shares) for name, (policy, *shares) in parsed.pools.items()}
    assert pools == {"production": (FAIR, 2, 3), "test": (FIFO, 1, 0)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[pool.a]\nweight = 0", "pool 'a': weight = 0: expected a whole number, 1 or more"),
        ("[pool.a]\nminShare = -1", "pool 'a': minShare = -1"),
        ("[pool.a]\nschedulingMode = 'LIFO'", "pool 'a': schedulingMode = 'LIFO': unknown scheduling policy 'LIFO'"),
        ("[pool.a]\nschedulingMode = 3", "schedulingMode = 3: expected FIFO, FAIR or a policy's name"),
        ("[pool.a]\nshares = 1", "pool 'a' has 'shares'; known are schedulingMode, weight, minShare"),
        ("[pools.a]", r"expected tables \[pool.<name>\]"),
        ("pool = 1", r"expected tables \[pool.<name>\]"),
        ("[pool]\na = 1", "pool 'a' is not a table"),
        ("[pool", "Expected"),
    ],
)
def test_a_bad_pools_file_is_named(tmp_path, text, problem):
    file = tmp_path / "pools.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        scheduler_settings(SparkConf().set("spark.scheduler.allocation.file", file))
    assert str(file) in str(caught.value)


def test_a_missing_pools_file_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        scheduler_settings(SparkConf().set("spark.scheduler.allocation.file", tmp_path / "none.toml"))


@pytest.mark.parametrize("pairs", [{"a": "b"}, {"spark.a": "b"}, None, 5, ["spark.a"], [("a", 1, 2)]])
def test_what_is_no_list_of_pairs_is_refused(pairs):
    with pytest.raises(ArgumentTypeError, match=r"setAll: pairs = .*: expected \(key, value\) pairs"):
        SparkConf().setAll(pairs)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("asparkle.plugin", "asparkle.plugins"),
        ("asparkle.metric.sinks", "asparkle.metrics.sinks"),
        ("asparkle.listener.queue.sise", "asparkle.listener.queue.size"),
    ],
)
def test_a_key_of_ours_that_is_misspelt_is_mentioned(misspelt, meant, caplog):
    check_conf(SparkConf().set(misspelt, "log"))
    assert f"unknown configuration key: misspelt?: key='{misspelt}' known='{meant}'" in caplog.text


@pytest.mark.parametrize(
    "name", ["asparkle.prometheus.port", "asparkle.opentelemetry.timeout", "asparkle.stragglers.factor"]
)
def test_keys_of_plugins_are_not_mentioned(name, caplog):
    check_conf(SparkConf().set(name, "1"))
    assert not caplog.text

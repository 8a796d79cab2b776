"""The listener as it is installed: activated by the name of its entry point."""

from __future__ import annotations

import logging
import time
from importlib.metadata import entry_points

import asparkle_stragglers
import pytest
from asparkle_stragglers import Stragglers

from asparkle import SparkConf, SparkContext
from asparkle.errors import ConfigurationError
from asparkle.testing import ListenerConformance


def conf(**settings: str) -> SparkConf:
    return SparkConf().setAll([("asparkle.plugins", "stragglers"), *settings.items()])


def test_its_entry_point_is_found():
    (entry,) = entry_points(group="asparkle", name="stragglers")
    assert entry.load() is asparkle_stragglers


def test_the_slow_task_is_named(caplog):
    def slow(x: int) -> int:
        time.sleep(1.0 if x == 3 else 0.05)
        return x

    with caplog.at_level(logging.WARNING, "asparkle"), SparkContext("processes[2]", "slow", conf=conf()) as sc:
        assert sc.parallelize(range(5), 5).map(slow).sum() == 10
    (record,) = [r for r in caplog.records if "took much longer" in r.getMessage()]
    assert "stage=0" in record.getMessage()
    assert "partition=3" in record.getMessage()


def test_nothing_is_said_of_tasks_that_take_as_long_as_others(caplog):
    settings = conf(**{"asparkle.stragglers.factor": "1000"})
    with caplog.at_level(logging.WARNING, "asparkle"), SparkContext("processes[2]", "even", conf=settings) as sc:
        sc.parallelize(range(8), 8).map(lambda x: time.sleep(0.02)).count()
    assert not [r for r in caplog.records if "took much longer" in r.getMessage()]


def test_a_factor_that_is_no_number_is_refused():
    settings = conf(**{"asparkle.stragglers.factor": "much"})
    with pytest.raises(ConfigurationError, match=r"asparkle\.stragglers\.factor = 'much': expected a number"):
        SparkContext("inline", "refused", conf=settings)


def test_another_key_is_refused():
    settings = conf(**{"asparkle.stragglers.factr": "2"})
    with pytest.raises(ConfigurationError, match=r"unknown key asparkle\.stragglers\.factr of plugin 'stragglers'"):
        SparkContext("inline", "refused", conf=settings)


class TestPromises(ListenerConformance):
    def make(self):
        return Stragglers(3)

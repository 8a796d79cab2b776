"""A third party's scheduling policy, from its registration to what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_plugins import plugin
from waiting import wait_until

from asparkle import SparkConf, SparkContext
from asparkle.core.conf import scheduler_conf
from asparkle.errors import PluginError
from asparkle.events import JobEnded, JobStarted
from asparkle.plugins import SchedulingPolicy, TaskSetFacts
from asparkle.plugins.listeners import EventRecorder
from asparkle.plugins.registry import PluginRegistry

PLUGIN = """
from asparkle.plugins import SchedulingPolicy, hookimpl

class Smallest(SchedulingPolicy):
    def rank(self, tasks):
        return (tasks.left,)

class Broken(SchedulingPolicy):
    def rank(self, tasks):
        return tasks.lenght

@hookimpl
def asparkle_scheduling_policies():
    return {"SMALLEST": "tidal_policies:Smallest", "BROKEN": Broken}
"""


@pytest.fixture
def tidal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with scheduling policies, installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tidal_policies.py").write_text(PLUGIN)
    info = tmp_path / "tidal-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[asparkle]\ntidal = tidal_policies\n")


def run_together(mode: str, sizes: list[int], tmp_path: Path) -> list[int]:
    """Jobs of these sizes, submitted while the only slot is busy; the sizes in the order of their ends."""
    gate, recorder = tmp_path / "gate", EventRecorder()

    def wait(_: Any) -> None:
        import time

        while not gate.exists():
            time.sleep(0.001)

    conf = SparkConf().setMaster("processes[1]").set("spark.scheduler.mode", mode)
    conf.set("asparkle.scheduler.prefetch", "0ms")
    with SparkContext(conf=conf, plugins=[recorder]) as sc:
        rdds = [sc.parallelize([0], 1).map(wait), *(sc.parallelize(range(size), size) for size in sizes)]
        handles = []
        for rdd in rdds:
            handles.append(sc.submit(rdd.count))
            wait_until(lambda: len(sc.statusTracker().getActiveJobsIds()) == len(handles))
        gate.touch()
        assert [handle.result(60) for handle in handles] == [1, *sizes]
    tasks = {event.job: sum(stage.tasks for stage in event.stages) for event in recorder.of_type(JobStarted)}
    return [tasks[event.job] for event in recorder.of_type(JobEnded)][1:]


@pytest.mark.parametrize("mode, order", [("FIFO", [4, 2, 3]), ("SMALLEST", [2, 3, 4])])
@pytest.mark.usefixtures("tidal")
def test_the_mode_decides_which_jobs_end_first(mode: str, order: list[int], tmp_path: Path) -> None:
    assert run_together(mode, [4, 2, 3], tmp_path) == order


@pytest.mark.usefixtures("tidal")
def test_with_a_broken_policy_jobs_run_and_an_error_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_together("BROKEN", [4, 2, 3], tmp_path) == [4, 2, 3]
    (message,) = caplog.messages
    assert "plugin 'tidal': scheduling policy 'BROKEN': rank(TaskSetFacts(" in message
    assert "raised AttributeError" in message


@pytest.mark.usefixtures("tidal")
def test_a_pools_file_may_name_a_plugins_policy(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text('[pool.quick]\nschedulingMode = "SMALLEST"\nweight = 2')
    conf = SparkConf().setMaster("inline").set("spark.scheduler.mode", "FAIR")
    registry = PluginRegistry(conf.set("spark.scheduler.allocation.file", file))
    policy, weight, share = scheduler_conf(conf, registry.scheduling_policy).pools["quick"]
    assert policy is not None and policy.rank(TaskSetFacts(0, "", "", 0, {}, 9, 7, 0)) == (0, 7)
    assert (weight, share) == (2, 0)


def test_a_policy_that_cannot_be_made_is_named() -> None:
    class Shy(SchedulingPolicy):
        def __init__(self, conf: object) -> None:
            raise OSError("no")

        def rank(self, tasks: TaskSetFacts) -> tuple[float, ...]:
            return ()

    registry = PluginRegistry(SparkConf(), [plugin(asparkle_scheduling_policies=lambda: {"SHY": Shy})])
    with pytest.raises(
        PluginError, match=r"plugin 'moon': asparkle_scheduling_policies: .*Shy could not be made: OSError: no"
    ):
        registry.scheduling_policy("SHY")

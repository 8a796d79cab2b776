"""Resource profiles: values that programs make, and that an RDD takes if its executors have what they ask for."""

from __future__ import annotations

from decimal import Decimal

import pytest

import asparkle
from asparkle import TaskContext
from asparkle.core.errors import ArgumentError, ArgumentTypeError, ConfigurationError
from asparkle.resource import (
    ExecutorResourceRequest,
    ExecutorResourceRequests,
    ResourceInformation,
    ResourceProfileBuilder,
    TaskResourceRequest,
    TaskResourceRequests,
)


def test_requests_are_collected_by_resource():
    requests = ExecutorResourceRequests().cores(2).memory("6g").memoryOverhead("1g").pysparkMemory("2048")
    requests = requests.offheapMemory("512k").resource("gpu", 2, "find.sh", "a vendor").cores(3)
    amounts = {name: request.amount for name, request in requests.requests.items()}
    assert amounts == {
        "cores": 3,
        "memory": 6144,
        "memoryOverhead": 1024,
        "pyspark.memory": 2048,
        "offHeap": 0,
        "gpu": 2,
    }
    assert requests.requests["gpu"] == ExecutorResourceRequest("gpu", 2, "find.sh", "a vendor")
    assert TaskResourceRequests().cpus(2).resource("gpu", 0.5).requests == {
        "cpus": TaskResourceRequest("cpus", 2.0),
        "gpu": TaskResourceRequest("gpu", 0.5),
    }
    assert ResourceInformation("gpu", ["0", "1"]).addresses == ["0", "1"]


def test_a_profile_has_what_was_asked_for_when_it_was_built():
    builder = (
        ResourceProfileBuilder().require(TaskResourceRequests().cpus(2)).require(ExecutorResourceRequests().cores(4))
    )
    first, second = builder.build, builder.build
    builder.clearTaskResourceRequests()
    builder.clearExecutorResourceRequests()
    assert (builder.taskResources, builder.executorResources) == ({}, {})
    assert first.taskResources == {"cpus": TaskResourceRequest("cpus", 2.0)}
    assert first.executorResources == {"cores": ExecutorResourceRequest("cores", 4)}
    assert 0 < first.id < second.id


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ExecutorResourceRequests().memory("much"), "amount = 'much': expected a size such as '512m'"),
        (lambda: ExecutorResourceRequests().cores(0), "amount = 0: expected a whole number, 1 or more"),
        (lambda: TaskResourceRequests().cpus(1.5), "amount = 1.5: expected a whole number, or at most 1"),
        (lambda: TaskResourceRequests().resource("gpu", -1), "amount = -1: expected a number, 0 or more"),
        (lambda: ResourceProfileBuilder().require(5), "resourceRequest = 5 of type int: expected"),  # type: ignore[arg-type]
    ],
)
def test_what_can_not_be_asked_for(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError)) as error:
        call()
    assert message in str(error.value)


def profile(*requests):
    builder = ResourceProfileBuilder()
    for request in requests:
        builder.require(request)
    return builder.build


def test_an_rdd_keeps_the_profile_that_its_executors_satisfy():
    with asparkle.SparkContext("threads[2]") as sc:
        rdd = sc.parallelize([1, 2], 2)
        assert rdd.getResourceProfile() is None
        given = profile(TaskResourceRequests().cpus(1))
        assert rdd.withResources(given) is rdd
        assert rdd.getResourceProfile() is given
        assert rdd.map(str).getResourceProfile() is None
        assert rdd.sum() == 3


@pytest.mark.parametrize(
    ("requests", "named"),
    [
        ([TaskResourceRequests().cpus(2)], "cpus = 2.0 for a task"),
        ([TaskResourceRequests().resource("gpu", 1)], "gpu = 1.0 for a task"),
        ([TaskResourceRequests().cpus(1), ExecutorResourceRequests().memory("1g")], "memory = 1024 for executors"),
    ],
)
def test_a_profile_that_asks_for_other_executors_is_refused(requests, named):
    with asparkle.SparkContext("threads[2]") as sc:
        rdd = sc.parallelize([1, 2], 2)
        with pytest.raises(ArgumentError, match=f"withResources: {named}: expected no more than cpus = 1 for a task"):
            rdd.withResources(profile(*requests))
        assert rdd.getResourceProfile() is None
        with pytest.raises(ArgumentTypeError, match="profile = 5 of type int: expected a ResourceProfile"):
            rdd.withResources(5)  # type: ignore[arg-type]


def test_the_slots_of_a_task_are_those_of_the_configuration():
    conf = asparkle.SparkConf().setMaster("threads[4]").set("spark.task.cpus", "2")
    with asparkle.SparkContext(conf=conf) as sc:
        assert sc.parallelize([1]).withResources(profile(TaskResourceRequests().cpus(2))).count() == 1


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_a_task_knows_its_cpus(master):
    conf = asparkle.SparkConf().setMaster(master).set("spark.task.cpus", "2")
    with asparkle.SparkContext(conf=conf) as sc:
        rdd = sc.parallelize([1], 1)
        plain = rdd.map(lambda x: (TaskContext().cpus(), TaskContext().cpuAmount(), TaskContext())).first()
        barrier = rdd.barrier().mapPartitions(lambda xs: [TaskContext().cpus(), TaskContext()]).collect()
    assert plain[:2] == (2, Decimal(2)) and barrier[0] == 2
    assert plain[2].cpus() == barrier[1].cpus() == 2  # also where it was returned from its task


@pytest.mark.parametrize(
    ("master", "slots"), [("inline", "1 slot"), ("threads[2]", "2 slots"), ("processes[2]", "2 slots")]
)
def test_a_task_of_more_cpus_than_there_are_slots_is_refused(master, slots):
    conf = asparkle.SparkConf().setMaster(master).set("spark.task.cpus", "3")
    with pytest.raises(ConfigurationError) as error:
        asparkle.SparkContext(conf=conf)
    assert str(error.value) == (
        f"spark.task.cpus = 3: no task could run, as master {master!r} has {slots}; "
        "give tasks fewer, or use a master of more, such as local[3]"
    )

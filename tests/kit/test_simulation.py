"""The simulated cluster that plugin authors have: the scheduler's decisions, on a virtual clock."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from asparkle.core.events import (
    ExecutorRemoved,
    JobEnded,
    JobStarted,
    SpeculativeTaskSubmitted,
    StageCompleted,
    TaskEnded,
)
from asparkle.errors import ArgumentError
from asparkle.plugins.schedulingpolicies import FAIR
from asparkle.testing import SimulatedCluster


def test_tasks_share_the_slots_and_no_time_passes():
    began = time.monotonic()
    cluster = SimulatedCluster(executors=5, slots=2, seconds=3600.0)
    job = cluster.submit(100)
    cluster.run()
    assert job.seconds == cluster.now == 10 * 3600.0
    assert Counter(attempt.outcome for attempt in cluster.attempts if attempt.began is not None) == {"success": 100}
    assert Counter(a.executor for a in cluster.attempts if a.outcome == "success") == dict.fromkeys(
        cluster.executors, 20
    )
    assert time.monotonic() - began < 5


def test_a_stage_begins_when_what_it_reads_is_complete():
    cluster = SimulatedCluster(executors=4, seconds=lambda attempt: 1.0 + attempt.partition)
    job = cluster.submit(4, 2)
    cluster.run()
    assert min(a.began for a in cluster.attempts if a.stage == 1) == max(
        a.ended for a in cluster.attempts if a.stage == 0
    )
    assert job.seconds == 4.0 + 2.0


def test_what_listeners_are_told():
    cluster = SimulatedCluster(executors=2)
    cluster.submit(4, 2, name="wordcount")
    cluster.run()
    kinds = Counter(type(event) for event in cluster.events)
    assert (kinds[JobStarted], kinds[StageCompleted], kinds[TaskEnded], kinds[JobEnded]) == (1, 2, 6, 1)
    assert [event.time for event in cluster.events if isinstance(event, JobEnded)] == [cluster.now]
    assert [event.time for event in cluster.events] == sorted(event.time for event in cluster.events)


def test_a_failed_attempt_is_tried_again_and_the_last_fails_the_job():
    cluster = SimulatedCluster(executors=2, fails=lambda a: a.job == 0 and a.partition == 1 and a.attempt < 2)
    job = cluster.submit(3)
    cluster.run()
    assert (job.failure, [a.attempt for a in cluster.attempts if a.partition == 1]) == ("", [0, 1, 2])

    cluster = SimulatedCluster(executors=2, fails=lambda attempt: attempt.partition == 1, max_failures=3)
    job = cluster.submit(3)
    cluster.run()
    assert "it was to fail" in job.failure
    assert sum(attempt.outcome == "failed" for attempt in cluster.attempts) == 3


@pytest.mark.parametrize("blocks_survive", [True, False])
def test_a_lost_executor_and_its_map_outputs(blocks_survive):
    cluster = SimulatedCluster(executors=2)
    job = cluster.submit(4, 4)
    cluster.at(2.5, lambda: cluster.lose("e0", "the power failed", blocks_survive=blocks_survive))
    cluster.run()
    assert job.failure == ""
    lost = [attempt for attempt in cluster.attempts if attempt.outcome == "executor lost"]
    assert [attempt.ended for attempt in lost if attempt.began is not None] == [2.5]
    again = [attempt for attempt in cluster.attempts if attempt.stage == 0 and attempt.began and attempt.began > 2.5]
    assert len(again) == (0 if blocks_survive else 2)
    assert [e.reason for e in cluster.events if isinstance(e, ExecutorRemoved)] == ["the power failed"]


def test_jobs_wait_for_executors_and_are_cancelled():
    cluster = SimulatedCluster()
    job, other = cluster.submit(2), cluster.submit(2)
    cluster.at(60.0, lambda: cluster.add(host="late", slots=2))
    cluster.at(10.0, lambda: cluster.cancel(other, "nobody waits for it"))
    cluster.run()
    assert (job.seconds, {attempt.host for attempt in cluster.attempts}) == (61.0, {"late"})
    assert (other.seconds, other.failure) == (10.0, "nobody waits for it")


def test_tasks_run_where_they_would_like_to():
    cluster = SimulatedCluster(executors=3)
    cluster.submit(3, hosts=[["host-e2"], ["host-e0"], ["host-e1"]])
    cluster.run()
    assert {a.partition: a.executor for a in cluster.attempts} == {0: "e2", 1: "e0", 2: "e1"}


def test_settings_of_the_scheduler():
    def seconds(attempt):
        return 100.0 if attempt.partition == 0 and attempt.attempt == 0 else 1.0

    cluster = SimulatedCluster(executors=4, seconds=seconds, speculation=True)
    job = cluster.submit(20)
    cluster.run()
    assert job.seconds < 20.0
    assert sum(isinstance(event, SpeculativeTaskSubmitted) for event in cluster.events) == 1
    assert [a.outcome for a in cluster.attempts if a.partition == 0 and a.began is not None] == ["killed", "success"]


def test_the_same_calls_give_the_same_history():
    def history():
        cluster = SimulatedCluster(executors=20, slots=2, seconds=lambda a: 1.0 + a.partition % 7 / 10, policy=FAIR())
        for number in range(10):
            cluster.submit(30 + number, 5, pool="ab"[number % 2])
            cluster.at(number * 1.7, lambda number=number: cluster.lose(f"e{number}", blocks_survive=number % 2 == 0))
        cluster.run()
        return cluster.history

    assert history() == history()


def test_a_thousand_executors():
    cluster = SimulatedCluster(executors=1000, seconds=10.0)
    job = cluster.submit(5000, 1000)
    cluster.run()
    assert job.seconds == 60.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cluster: cluster.submit(), "expected the number of tasks"),
        (lambda cluster: cluster.submit(3, 0), "submit\\(3, 0\\): expected the number of tasks"),
        (lambda cluster: cluster.lose("e7"), "there is no executor 'e7': there are e0"),
        (lambda cluster: cluster.add("e0"), "there is an executor 'e0' already"),
        (lambda cluster: cluster.submit(1).seconds, "job 0 has not ended"),
        (lambda cluster: SimulatedCluster(max_failure=1), "no setting 'max_failure': it has max_failures, "),
    ],
)
def test_what_can_not_be(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(SimulatedCluster(executors=1))

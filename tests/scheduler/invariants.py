"""What must be true of the machine's inside after every event, and what must be left when all is over."""

from __future__ import annotations

from asparkle.core.scheduler import Scheduler
from asparkle.core.scheduler.records import ACTIVE, IDLE, QUEUED, RUNNING, WAITING, Attempt, Executor, Stage
from asparkle.core.scheduler.tasksets import DONE, FREE, HELD, LIVE, MARKED, TaskSet


def check(scheduler: Scheduler) -> None:
    """Every count and every index agrees with what it counts and indexes."""
    for executor in scheduler._fleet.executors.values():
        check_executor(scheduler, executor)
    check_fleet(scheduler)
    for stage in scheduler._lineage.stages.values():
        check_stage(stage)
        if stage.tasks is not None:
            check_tasks(stage, stage.tasks)
    check_pools(scheduler)


def check_executor(scheduler: Scheduler, executor: Executor) -> None:
    queued = [attempt for attempt in executor.queue if attempt.state == QUEUED]
    assert executor.queued == len(queued)
    assert executor.unrecalled == sum(not attempt.recalled for attempt in queued)
    assert (executor in scheduler._fleet.ahead) == (executor.unrecalled > 0)
    assert all(attempt.state == RUNNING for attempt in executor.running.values())
    assert executor.slow == sum(attempt.slow for attempt in executor.running.values())
    assert not queued or len(executor.running) >= executor.slots, "work queued while a slot is free"
    assert (executor in executor.host.idle) == executor.room()
    mine = {attempt.tid for attempt in queued} | set(executor.running)
    assert mine == {tid for tid, a in scheduler._fleet.attempts.items() if a.executor is executor}


def check_fleet(scheduler: Scheduler) -> None:
    fleet = scheduler._fleet
    usable = [executor for executor in fleet.executors.values() if executor.usable()]
    assert fleet.slots == sum(executor.slots for executor in usable)
    assert fleet.free == sum(max(0, executor.slots - len(executor.running)) for executor in usable)
    assert all(attempt.executor.alive for attempt in fleet.attempts.values())
    assert set(fleet.idle) == {executor.host for executor in usable if executor.room()}
    assert fleet.occupied == len({executor.host for executor in fleet.executors.values()})
    for host in fleet.hosts.values():
        assert host.executors or host.local, "a host that nobody speaks of"
    for executor in fleet.executors.values():
        assert fleet.hosts[executor.host.name] is executor.host


def check_stage(stage: Stage) -> None:
    incomplete = sum(not parent.complete for parent in stage.parents)
    assert stage.missing == sum(writer is None for writer in stage.outputs.writers)
    assert (stage.state == IDLE) <= (stage.tasks is None)
    if stage.state == WAITING:
        assert stage.blocked == incomplete > 0
        assert all(parent.complete or parent.state != IDLE for parent in stage.parents), "waits for nobody"
    if stage.state == ACTIVE:
        assert incomplete == 0 and stage.tasks is not None and not stage.tasks.paused
    if stage.state != IDLE:
        assert stage.jobs, "works for no job"
    for partition, writer in enumerate(stage.outputs.writers):
        assert writer is not None or stage.outputs.locations[partition] is None
        assert writer is None or (partition in stage.written[writer] and stage in writer.wrote)
    for parent in stage.parents:
        assert stage in parent.children or parent.removed


def check_tasks(stage: Stage, tasks: TaskSet) -> None:
    status = tasks.status if isinstance(tasks.status, dict) else dict(enumerate(tasks.status))
    for code, count in ((FREE, tasks.n_free), (HELD, tasks.n_held), (MARKED, tasks.n_marked)):
        assert sum(value == code for value in status.values()) == count
    done = tasks.gathering.succeeded if tasks.gathering is not None else {}
    live = {partition for partition, value in status.items() if value == LIVE}
    assert live == set(tasks.live) | set(done)
    assert tasks.left == sum(value not in (DONE, 0) for value in status.values())
    attempts: list[Attempt] = []
    for partition, attempt in tasks.live.items():
        copies = [attempt] if attempt.twin is None else [attempt, attempt.twin]
        for copy in copies:
            assert copy.partition == partition and copy.stage is stage
            assert copy.wanted and copy.state in (QUEUED, RUNNING) and copy.generation == stage.generation
        attempts += copies
    assert tasks.running == sum(attempt.state == RUNNING for attempt in attempts)
    assert tasks.ready == tasks.eligible()
    for executor in tasks.by_executor:
        assert executor.alive and tasks in executor.local
    for host in tasks.by_host:
        assert tasks in host.local


def check_pools(scheduler: Scheduler) -> None:
    sets = [stage.tasks for stage in scheduler._lineage.stages.values() if stage.tasks is not None]
    for pool in scheduler._pools._pools.values():
        members = [tasks for tasks in sets if tasks.pool is pool]
        assert pool.members == len(members) > 0
        assert pool.running == sum(tasks.running for tasks in members)
        assert {tasks for tasks in members if tasks.ready} == set(pool.ready._entries)
        assert (pool in scheduler._pools._order) == bool(len(pool.ready))
    assert all(tasks.pool in scheduler._pools._pools.values() for tasks in sets)


def check_work_conserving(scheduler: Scheduler) -> None:
    """Nobody is idle while something is ready (exclusion, barriers and copies apart)."""
    first = scheduler._pools.first()
    if first is None or scheduler._fleet.free == 0:
        return
    sets = [stage.tasks for stage in scheduler._lineage.stages.values() if stage.tasks is not None]
    if any(tasks.gathering is not None or tasks.bars is not None or tasks.copies for tasks in sets):
        return
    raise AssertionError("a slot is free and a task set is ready")


def leftovers(scheduler: Scheduler) -> list[str]:
    """What is remembered though all jobs are over and all attempts have been answered."""
    found: list[str] = []

    def empty(name: str, what: object) -> None:
        if what:
            found.append(f"{name}: {what!r}"[:300])

    lineage, fleet, turn = scheduler._lineage, scheduler._fleet, scheduler._turn
    empty("jobs", lineage.jobs)
    empty("groups", lineage.groups)
    empty("tags", lineage.tags)
    empty("demands", lineage.demands)
    empty("result stages", [s.id for s in lineage.stages.values() if s.spec.shuffle is None])
    empty("stages at work", [s.id for s in lineage.stages.values() if s.tasks or s.jobs or s.state or s.commits])
    empty("attempts", fleet.attempts)
    empty("ahead", fleet.ahead)
    empty("empty hosts", [h.name for h in fleet.hosts.values() if not h.executors])
    empty("local sets", [h.name for h in fleet.hosts.values() if h.local])
    for executor in fleet.executors.values():
        empty(f"of {executor.name}", [executor.running, executor.queued, executor.slow] != [{}, 0, 0])
        empty(f"queue of {executor.name}", executor.queue)
        empty(f"local sets of {executor.name}", executor.local)
    empty("pools", scheduler._pools._pools)
    empty("pool order", len(scheduler._pools._order))
    empty("pool changes", [scheduler._pools._changed, scheduler._pools._changed_sets] != [{}, {}])
    lasting = ("failures", "executor", "host")
    empty(
        "timers",
        [k for k in turn.timers._alarms if k != "recall" and not (isinstance(k, tuple) and k[0] in lasting)],
    )
    empty("recalls", scheduler._recalls._waiting)
    empty("barriers", scheduler._barriers._waiting)
    empty("barred", scheduler._exclusion.barred)
    empty("suspects", scheduler._suspects)
    empty("offers", scheduler._dispatch.offers)
    empty("reserved", scheduler._dispatch._reserved)
    empty("touched", scheduler._dispatch._touched)
    return found

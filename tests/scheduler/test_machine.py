"""The machine as a whole: pure, deterministic, talkative only when asked, and open to a status page."""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path

import pytest

import asparkle.core.scheduler as package
from asparkle.core import events
from asparkle.core.scheduler import Emit, Launch, Scheduler, SchedulerConf
from asparkle.core.scheduler.messages import TaskFailed
from asparkle.core.scheduler.timers import Timers

from .bench import Bench, result, stage
from .simulation import Simulation, Workload, drive, random_chances, random_conf, random_run

SOURCES = sorted(Path(package.__file__).parent.glob("*.py"))


class TestRules:
    @pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
    def test_only_the_standard_library_and_nothing_that_acts(self, source: Path) -> None:
        tree = ast.parse(source.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in names if name.startswith("asparkle.")}
        pure = {"asparkle.core.contracts", "asparkle.core.events", "asparkle.core.namedtuple"}
        assert all(name.startswith("asparkle.core.scheduler") or name in pure for name in ours)
        roots = {name.split(".")[0] for name in names - ours}
        assert roots <= sys.stdlib_module_names
        assert not roots & {"asyncio", "io", "logging", "os", "random", "socket", "threading", "time"}
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))

    @pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
    def test_no_file_is_past_500_lines(self, source: Path) -> None:
        assert len(source.read_text().splitlines()) <= 500

    def test_the_same_events_yield_the_same_commands(self) -> None:
        for seed in range(20):
            first, second = random_run(random.Random(seed)), random_run(random.Random(seed))
            assert first.history == second.history

    def test_a_scheduler_needs_no_configuration(self) -> None:
        assert Scheduler().next_deadline() is None


class TestEvents:
    def test_nothing_is_emitted_unless_somebody_listens(self) -> None:
        bench = Bench().executor("a")
        bench.job(result(0, 1))
        bench.run()
        assert bench.get(Emit, ever=True) == []

    def test_a_job_tells_its_story(self) -> None:
        bench = Bench(listening=True).executor("a")
        bench.now = 5.0
        bench.job(stage(0, 1, name="first"), result(1, 1, [0]), name="story", tags=frozenset("t"))
        bench.run()
        story = [type(emit.event).__name__ for emit in bench.get(Emit, ever=True)]
        assert story == [
            *["ExecutorAdded", "JobStarted", "StageSubmitted", "TaskStarted", "TaskEnded", "StageCompleted"],
            *["StageSubmitted", "TaskStarted", "TaskEnded", "StageCompleted", "JobEnded"],
        ]
        emitted = [emit.event for emit in bench.get(Emit, ever=True)]
        infos = (events.StageInfo(0, 1, "first", 0), events.StageInfo(1, 1, "", None, (0,)))
        assert emitted[1] == events.JobStarted(5.0, 1, "story", infos, 1, tags=("t",))
        assert emitted[4] == events.TaskEnded(5.0, 0, 0, 0, 0, 0, "a", "host-a", "success", 1.0)

    def test_listening_changes_no_other_command(self) -> None:
        for seed in range(15):
            runs = [random_run(random.Random(seed), listening=listening) for listening in (False, True)]
            silent, told = ([entry for entry in run.history if not isinstance(entry[1], Emit)] for run in runs)
            assert silent == told

    def test_every_attempt_that_started_ends_once(self) -> None:
        for seed in range(40):
            rng = random.Random(seed)
            sim = Simulation(rng, random_conf(rng), random_chances(rng), listening=True)
            drive(sim, Workload(rng), 4)
            started = [event.tid for event in sim.emitted if isinstance(event, events.TaskStarted)]
            ended = [event.tid for event in sim.emitted if isinstance(event, events.TaskEnded)]
            assert len(set(started)) == len(started)
            assert sorted(started) == sorted(ended)
            jobs = [event.job for event in sim.emitted if isinstance(event, events.JobEnded)]
            assert sorted(jobs) == sorted(sim.jobs)

    def test_every_attempt_at_a_stage_that_was_submitted_completes_once_and_before_its_jobs_end(self) -> None:
        """Whatever was lost meanwhile: paused and resumed, rolled back, failed or cancelled."""
        errors = set()
        for seed in range(60):
            rng = random.Random(seed)
            sim = Simulation(rng, random_conf(rng), random_chances(rng), listening=True)
            drive(sim, Workload(rng), 4)
            open_attempts: dict[int, int] = {}
            jobs: dict[int, set[int]] = {}
            for event in sim.emitted:
                match event:
                    case events.JobStarted():
                        jobs[event.job] = {info.stage for info in event.stages}
                    case events.StageSubmitted():
                        assert open_attempts.setdefault(event.stage, event.attempt) == event.attempt
                    case events.StageCompleted():
                        assert open_attempts.pop(event.stage) == event.attempt
                        errors.add(event.error.split(" ")[0])
                    case events.JobEnded():
                        ended = jobs.pop(event.job)
                        needed_by_others = set().union(*jobs.values())
                        assert not (ended - needed_by_others) & open_attempts.keys()
            assert not open_attempts
        assert {"", "outputs", "stage"} <= errors  # complete, resumed, rolled back

    def test_what_went_wrong_is_told_in_words(self) -> None:
        bench = Bench(listening=True, max_failures=1).executor("a")
        bench.job(result(0, 1))
        (tid,) = bench.tasks
        story = ("ValueError", "three", "  File ...")
        bench.tell(TaskFailed("a", bench.epochs["a"], tid, b"pickled", story=story))
        emitted = [emit.event for emit in bench.get(Emit, ever=True)]
        (ended,) = [event for event in emitted if isinstance(event, events.TaskEnded)]
        assert (ended.error, ended.error_type, ended.frames) == ("ValueError: three", "ValueError", "  File ...")
        (job,) = [event for event in emitted if isinstance(event, events.JobEnded)]
        assert job.reason.endswith("on a: ValueError: three")

    def test_an_executor_is_removed_after_its_attempts_have_ended(self) -> None:
        bench = Bench(listening=True).executor("a").executor("b")
        bench.job(result(0, 2))
        bench.lose("a")
        told = [type(emit.event).__name__ for emit in bench.get(Emit, ever=True)]
        assert told.index("TaskEnded") < told.index("ExecutorRemoved")

    def test_a_stage_that_was_computed_anew_for_nothing_was_not_complete(self) -> None:
        bench = Bench(listening=True).executor("a", 1).executor("b", 3).cached("b", (7, 0), (7, 1))
        bench.job(stage(0, 2), result(1, 2, [0], blocks=[[(7, 0)], [(7, 1)]]))
        bench.succeed((0, 0), (0, 1))
        bench.lose("a", blocks_survive=False)  # with what it wrote, which both tasks on b have read already
        assert bench.placed == {(0, 0): "b"}
        bench.succeed((1, 0), (1, 1))
        told = [emit.event for emit in bench.get(Emit, ever=True)]
        completed = [(event.stage, event.error) for event in told if isinstance(event, events.StageCompleted)]
        assert completed == [(0, ""), (1, ""), (0, "job 1 is over")]

    def test_blocks_that_a_host_loses_with_an_executor_are_told(self) -> None:
        bench = Bench(listening=True).executor("a").executor("b")
        bench.cached("a", (7, 0), scope="host").cached("b", (7, 1), scope="host")
        bench.lose("b").lose("a", blocks_survive=False)
        told = [emit.event for emit in bench.get(Emit, ever=True) if isinstance(emit.event, events.BlockUpdated)]
        assert [(event.partition, event.present) for event in told] == [(0, True), (1, True), (0, False)]

    def test_outcomes(self) -> None:
        bench = Bench(listening=True).executor("a", 9).executor("b", 1)
        bench.job(stage(0, 2), result(1, 5, [0]))
        bench.succeed((0, 0), (0, 1))
        (on_b,) = [tid for tid, task in bench.tasks.items() if task.stage == 1 and bench.where[tid][0] == "b"]
        on_a = sorted(task.partition for tid, task in bench.tasks.items() if task.stage == 1 and tid != on_b)
        bench.fail((1, on_a[0])).fetch_failed((1, on_a[1]), 0, 0).lose("b").cancel()
        bench.succeed(bench.killed[0]).killed_ok(*bench.scheduler.executors()[0].running)
        ended = [e.event for e in bench.get(Emit, ever=True) if isinstance(e.event, events.TaskEnded)]
        assert {event.outcome for event in ended} == {
            *["success", "failed", "fetch failed", "executor lost", "unused", "killed"]
        }
        assert [event.tid for event in ended if event.outcome == "executor lost"] == [on_b]
        assert [event.error for event in ended if event.outcome == "failed"] == ["boom"]
        (unread,) = [event.unread for event in ended if event.outcome == "fetch failed"]
        assert unread[:2] == (0, 0)


class TestViews:
    def test_jobs_stages_and_executors(self) -> None:
        bench = Bench(prefetch_horizon=1.0).executor("a", 2, "h")
        bench.job(result(0, 9, name="counting"), name="count", group="g", pool="p", tags=frozenset("t"))
        (job,) = bench.scheduler.jobs()
        assert (job.job, job.name, job.group, job.pool, job.partitions, job.left) == (
            1,
            "count",
            "g",
            "p",
            9,
            9,
        )
        (view,) = bench.scheduler.stages()
        assert (view.state, view.running, view.pending, view.seconds) == ("active", 2, 5, 0.0)
        bench.succeed(0, seconds=2.0)
        (view,) = bench.scheduler.stages()
        assert view.seconds == 2.0
        (executor,) = bench.scheduler.executors()
        assert (executor.executor, executor.host, executor.slots, executor.free) == ("a", "h", 2, 0)
        assert len(executor.running) == 2

    def test_a_killed_attempt_that_has_not_answered_is_shown_to_run(self) -> None:
        bench = Bench().executor("a", 2)
        bench.job(result(0, 1))
        bench.cancel()
        (executor,) = bench.scheduler.executors()
        assert (executor.running, executor.free) == ((0,), 1)

    def test_unknown_shuffles(self) -> None:
        scheduler = Scheduler()
        assert not scheduler.shuffle_complete(7)
        with pytest.raises(KeyError):
            scheduler.map_outputs(7)


class TestScale:
    """Work per event does not grow: counted, not timed."""

    def lines(self, tasks: int, executors: int) -> float:
        """Lines of the machine that are executed per task."""
        bench_scheduler = Scheduler(SchedulerConf())
        from asparkle.core.scheduler import ExecutorAdded, JobSpec, JobSubmitted, TaskSucceeded

        for n in range(executors):
            bench_scheduler.handle(ExecutorAdded(f"e{n}", 0, f"h{n}", 1), 0.0)
        count = 0

        def trace(frame: object, event: str, arg: object) -> object:
            nonlocal count
            count += 1
            return trace

        queue = []
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            said = bench_scheduler.handle(JobSubmitted(JobSpec(1, (result(0, tasks),), range(tasks))), 0.0)
            while said or queue:
                for command in said:
                    if type(command) is Launch:
                        queue += [(command.executor, task.tid) for task in command.tasks]
                executor, tid = queue.pop(0)
                said = bench_scheduler.handle(TaskSucceeded(executor, 0, tid, 1.0), 1.0)
                if not queue and not any(type(command) is Launch for command in said):
                    break
        finally:
            sys.settrace(None)
        assert bench_scheduler.jobs() == []
        return count / tasks

    def test_per_task_whatever_the_number_of_tasks_and_executors(self) -> None:
        few = self.lines(200, 20)
        assert self.lines(2000, 20) < 1.2 * few
        assert self.lines(2000, 1000) < 1.2 * few


class TestTimers:
    def test_ring_in_order_and_once(self) -> None:
        timers, rung = Timers(), []
        for key, when in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
            timers.set(key, when, lambda key=key: rung.append(key))
        timers.ring(2.0)
        assert rung == ["a", "b"]
        assert timers.next() == 3.0

    def test_may_be_moved_and_cancelled(self) -> None:
        timers, rung = Timers(), []
        timers.set("a", 1.0, lambda: rung.append("early"))
        timers.set("a", 5.0, lambda: rung.append("late"))
        timers.set("b", 2.0, lambda: rung.append("b"))
        timers.cancel("b")
        assert timers.next() == 5.0
        timers.ring(9.0)
        assert rung == ["late"] and len(timers) == 0

    def test_cancelled_ones_do_not_pile_up(self) -> None:
        timers = Timers()
        for n in range(10_000):
            timers.set(n, 1e9, lambda: None)
            timers.cancel(n)
        assert len(timers._heap) < 200

    def test_what_is_set_for_the_past_rings_at_the_next_call(self) -> None:
        timers, rung = Timers(), []
        timers.set("a", 1.0, lambda: timers.set("a", 0.5, lambda: rung.append("again")))
        timers.ring(1.0)
        assert rung == []
        timers.ring(1.0)
        assert rung == ["again"]

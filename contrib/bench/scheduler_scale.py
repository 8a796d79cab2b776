"""How fast the scheduler is, alone: task lifecycles (Launch + TaskSucceeded) per second of ``handle()``.

    python contrib/bench/scheduler_scale.py [TASKS ...]

Simulated executors on a virtual clock run one shuffle, nine tenths of the TASKS on its map side, from 1,000
tasks up to 1,000,000.  Only the CPU time inside ``handle()`` is measured.  Seeded: the same run each time.
Each row is a process of its own, lest it runs in the memory that a larger one has left in tatters, and is
repeated, twice at least; the fastest run counts.

The first two shapes tell what the number of tasks costs: 32 slots are soon full, and all but a few events are
a task's end that lets another begin.  With more slots than that a small job is half made of one call that
launches most of it, which is cheaper for each task.
"""

from __future__ import annotations

import gc
import heapq
import multiprocessing
import random
import sys
import time
from collections import deque

from asparkle.core.scheduler import (
    DeadlineReached,
    ExecutorAdded,
    JobSpec,
    JobSubmitted,
    Launch,
    Scheduler,
    SchedulerConf,
    StageSpec,
    Task,
    TaskSucceeded,
)
from asparkle.core.scheduler.messages import Command, Event, Recall, TasksReturned

SHAPES = (  # executors, slots of each, seconds that a task takes
    (8, 4, 0.001),
    (8, 4, 1.0),
    (100, 4, 0.001),
    (100, 4, 1.0),
    (10_000, 1, 0.001),
    (10_000, 1, 1.0),
)


class Executors:
    """Each runs its attempts in order, ``slots`` at a time."""

    def __init__(self, count: int, slots: int, seconds: float, rng: random.Random) -> None:
        self.slots = slots
        self.seconds = seconds
        self.rng = rng
        self.queues: dict[str, deque[Task]] = {f"e{i}": deque() for i in range(count)}
        self.running = dict.fromkeys(self.queues, 0)
        self.due: list[tuple[float, int, str, float]] = []

    def carry_out(self, commands: list[Command], now: float) -> list[Event]:
        answers: list[Event] = []
        for command in commands:
            if type(command) is Launch:
                self.queues[command.executor].extend(command.tasks)
                self.start(command.executor, now)
            elif type(command) is Recall:
                queue, asked = self.queues[command.executor], set(command.tids)
                back = [task.tid for task in queue if task.tid in asked]
                self.queues[command.executor] = deque(task for task in queue if task.tid not in asked)
                answers.append(TasksReturned(command.executor, 0, back))
        return answers

    def start(self, executor: str, now: float) -> None:
        queue = self.queues[executor]
        while queue and self.running[executor] < self.slots:
            self.running[executor] += 1
            seconds = self.seconds * (0.5 + self.rng.random())
            heapq.heappush(self.due, (now + seconds, queue.popleft().tid, executor, seconds))


def measure(tasks: int, executors: int, slots: int, seconds: float) -> tuple[int, int, float, float]:
    """(lifecycles, calls of handle, seconds in handle, longest call)."""
    rng = random.Random(1)
    reducers = max(1, tasks // 10)
    stages = (StageSpec(0, tasks - reducers, (), 0), StageSpec(1, reducers, (0,)))
    scheduler = Scheduler(SchedulerConf())
    cluster = Executors(executors, slots, seconds, rng)
    spent, longest, calls, done, now = 0.0, 0.0, 0, 0, 0.0
    events: deque[Event] = deque(
        ExecutorAdded(f"e{i}", 0, f"h{i % max(1, executors // 4)}", slots) for i in range(executors)
    )
    events.append(JobSubmitted(JobSpec(0, stages, range(reducers))))
    while True:
        while events:
            event = events.popleft()
            began = time.thread_time()
            commands = scheduler.handle(event, now)
            took = time.thread_time() - began
            if type(event) is not ExecutorAdded:
                spent += took
                calls += 1
                longest = max(longest, took)
            events.extend(cluster.carry_out(commands, now))
        deadline = scheduler.next_deadline()
        if cluster.due and (deadline is None or cluster.due[0][0] <= deadline):
            now, tid, executor, took = heapq.heappop(cluster.due)
            cluster.running[executor] -= 1
            cluster.start(executor, now)
            events.append(TaskSucceeded(executor, 0, tid, took, None, None, None))
            done += 1
        elif scheduler.jobs() and deadline is not None:
            now = max(now, deadline)
            events.append(DeadlineReached())
        else:
            return done, calls, spent, longest


def row(size: int, executors: int, slots: int, seconds: float) -> None:
    """Measure one size and print it."""
    runs = []
    for _ in range(max(2, min(20, 200_000 // size))):
        gc.collect()
        runs.append(measure(size, executors, slots, seconds))
    done, calls, spent, longest = min(runs, key=lambda run: run[2])
    print(
        f"{size:>10,} {executors:>10,} {seconds:>7}s {calls / spent:>10,.0f} {done / spent:>10,.0f} "
        f"{1e6 * spent / done:>8.2f} {1000 * longest:>7.1f}ms",
        flush=True,
    )


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [1_000, 10_000, 100_000, 1_000_000]
    print(
        f"{'tasks':>10} {'executors':>10} {'task':>8} {'handle/s':>10} {'tasks/s':>10} {'µs/task':>8} {'longest':>9}",
        flush=True,
    )
    processes = multiprocessing.get_context("spawn")
    for executors, slots, seconds in SHAPES:
        for size in sizes:
            process = processes.Process(target=row, args=(size, executors, slots, seconds))
            process.start()
            process.join()


if __name__ == "__main__":
    main()

"""How fast the scheduler is, alone: task lifecycles (Launch + TaskSucceeded) per second of ``handle()``.

    python contrib/bench/scheduler_scale.py [TASKS ...]

Simulated executors on a virtual clock run one shuffle, nine tenths of the TASKS on its map side, from 1,000
tasks up to 1,000,000.  Only the CPU time inside ``handle()`` is measured.  Seeded: the same run each time.

Each size runs in a process of its own, and the sizes of a shape take turns of a twentieth of a second until
the largest is done (the others begin again and again): a machine that is slower for a while, as shared ones
are, is so for all of them, and what is left of a difference comes from the number of tasks.

The first two shapes tell what that number costs: 32 slots are soon full, and all but a few events are
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
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

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

TURN = 0.05
"""Seconds of CPU."""


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


@dataclass
class Figures:
    tasks: int = 0
    calls: int = 0
    """Of handle()."""
    seconds: float = 0.0
    """In handle()."""
    longest: float = 0.0
    """Call of handle(), in seconds."""
    jobs: int = 0


def job(figures: Figures, tasks: int, executors: int, slots: int, seconds: float) -> Iterator[None]:
    """Run one job and add it to the FIGURES; pauses after each round of events."""
    rng = random.Random(1)
    reducers = max(1, tasks // 10)
    stages = (StageSpec(0, tasks - reducers, (), 0), StageSpec(1, reducers, (0,)))
    scheduler = Scheduler(SchedulerConf())
    cluster = Executors(executors, slots, seconds, rng)
    now = 0.0
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
                figures.seconds += took
                figures.calls += 1
                figures.longest = max(figures.longest, took)
            events.extend(cluster.carry_out(commands, now))
        yield
        deadline = scheduler.next_deadline()
        if cluster.due and (deadline is None or cluster.due[0][0] <= deadline):
            now, tid, executor, took = heapq.heappop(cluster.due)
            cluster.running[executor] -= 1
            cluster.start(executor, now)
            events.append(TaskSucceeded(executor, 0, tid, took, None, None, None))
            figures.tasks += 1
        elif scheduler.jobs() and deadline is not None:
            now = max(now, deadline)
            events.append(DeadlineReached())
        else:
            figures.jobs += 1
            return


def take_turns(parent: Connection, tasks: int, executors: int, slots: int, seconds: float) -> None:
    """A process: run jobs for as long as the parent says, turn by turn."""
    figures = Figures()
    steps = job(figures, tasks, executors, slots, seconds)
    while parent.recv():
        end = time.process_time() + TURN
        while time.process_time() < end:
            if next(steps, True):  # a job's steps are None
                gc.collect()
                steps = job(figures, tasks, executors, slots, seconds)
        parent.send(figures)


def measure(sizes: list[int], executors: int, slots: int, seconds: float) -> list[Figures]:
    """One shape: the figures of each size."""
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for size in sizes:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=take_turns, args=(theirs, size, executors, slots, seconds)))
        processes[-1].start()
        ends.append(ours)
    figures = [Figures() for _ in sizes]
    while not all(each.jobs for each in figures):
        for i, end in enumerate(ends):
            end.send(True)
            figures[i] = end.recv()
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    return figures


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [1_000, 10_000, 100_000, 1_000_000]
    print(
        f"{'tasks':>10} {'executors':>10} {'task':>8} {'handle/s':>10} {'tasks/s':>10} {'µs/task':>8} "
        f"{'of the first':>13} {'longest':>9}",
        flush=True,
    )
    for executors, slots, seconds in SHAPES:
        rows = measure(sizes, executors, slots, seconds)
        first = rows[0].seconds / rows[0].tasks
        for size, row in zip(sizes, rows, strict=True):
            each = row.seconds / row.tasks
            print(
                f"{size:>10,} {executors:>10,} {seconds:>7}s {row.calls / row.seconds:>10,.0f} {1 / each:>10,.0f} "
                f"{1e6 * each:>8.2f} {each / first:>12.0%} {1000 * row.longest:>7.1f}ms",
                flush=True,
            )


if __name__ == "__main__":
    main()

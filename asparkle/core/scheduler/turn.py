"""What the parts of the machine share during one ``handle()`` call: the time, and the commands so far."""

from __future__ import annotations

from collections.abc import Sequence

from asparkle.core.scheduler.messages import Command, Emit, Kill, Launch, Recall, SchedulerConf, Task
from asparkle.core.scheduler.records import Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.timers import Timers


class Batches:
    """What is launched on one executor: one batch per task set, but for that what is sent ahead keeps its
    order, and comes after what has a slot; the executor runs it in the order in which it comes."""

    __slots__ = ("_ahead", "_slots")

    def __init__(self) -> None:
        self._slots: dict[TaskSet, list[Task]] = {}
        self._ahead: list[tuple[TaskSet, list[Task]]] = []

    def add(self, tasks: TaskSet, attempt: Task, ahead: bool) -> None:
        if not ahead:
            self._slots.setdefault(tasks, []).append(attempt)
        elif self._ahead and self._ahead[-1][0] is tasks:
            self._ahead[-1][1].append(attempt)
        else:
            self._ahead.append((tasks, [attempt]))

    def in_order(self) -> list[tuple[TaskSet, list[Task]]]:
        batches = list(self._slots.items())
        for tasks, attempts in self._ahead:
            if batches and batches[-1][0] is tasks:
                batches[-1][1].extend(attempts)
            else:
                batches.append((tasks, attempts))
        return batches


class Turn:
    """Kills, recalls and launches are gathered by executor, and come after all other commands."""

    def __init__(self, conf: SchedulerConf, listening: bool) -> None:
        self.conf = conf
        self.listening = listening
        self.now = 0.0
        self.timers = Timers()
        self.out: list[Command] = []
        self._launches: dict[Executor, Batches] = {}
        self._kills: dict[tuple[Executor, str], list[int]] = {}
        self._recalls: dict[Executor, list[int]] = {}

    def emit(self, event: object) -> None:
        self.out.append(Emit(event))

    def kill(self, executor: Executor, tid: int, reason: str) -> None:
        self._kills.setdefault((executor, reason), []).append(tid)

    def launch(self, executor: Executor, tasks: TaskSet, attempt: Task, ahead: bool) -> None:
        batches = self._launches.get(executor)
        if batches is None:
            batches = self._launches[executor] = Batches()
        batches.add(tasks, attempt, ahead)

    def recall(self, executor: Executor, tids: Sequence[int]) -> None:
        self._recalls.setdefault(executor, []).extend(tids)

    def finish(self) -> list[Command]:
        out = self.out
        if self._kills:
            for (executor, reason), tids in self._kills.items():
                out.append(Kill(executor.name, executor.epoch, tids, reason))
            self._kills.clear()
        if self._recalls:
            for executor, tids in self._recalls.items():
                out.append(Recall(executor.name, executor.epoch, tids))
            self._recalls.clear()
        if self._launches:
            for executor, batches in self._launches.items():
                for tasks, attempts in batches.in_order():
                    out.append(
                        Launch(
                            executor.name,
                            executor.epoch,
                            tasks.stage.id,
                            attempts,
                            tasks.shuffles,
                            tasks.peers,
                        )
                    )
            self._launches.clear()
        self.out = []
        return out

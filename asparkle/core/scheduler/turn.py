"""What the parts of the machine share during one ``handle()`` call: the time, and the commands so far."""

from __future__ import annotations

from asparkle.core.scheduler.messages import Command, Emit, Kill, Launch, Recall, SchedulerConf, Task
from asparkle.core.scheduler.records import QUEUED, SETTLED, Attempt, Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.timers import Timers


class Turn:
    """Kills, recalls and launches are gathered by executor, and come after all other commands.  Kills and
    recalls of what was settled or killed in the same turn are not sent."""

    def __init__(self, conf: SchedulerConf, listening: bool) -> None:
        self.conf = conf
        self.listening = listening
        self.now = 0.0
        self.timers = Timers()
        self.out: list[Command] = []
        self._launches: dict[Executor, list[tuple[TaskSet, list[Task]]]] = {}
        self._kills: dict[tuple[Executor, str], list[Attempt]] = {}
        self._recalls: dict[Executor, list[Attempt]] = {}

    def emit(self, event: object) -> None:
        self.out.append(Emit(event))

    def kill(self, attempt: Attempt, reason: str) -> None:
        self._kills.setdefault((attempt.executor, reason), []).append(attempt)

    def recall(self, attempt: Attempt) -> None:
        self._recalls.setdefault(attempt.executor, []).append(attempt)

    def launch(self, executor: Executor, tasks: TaskSet, attempt: Task, ahead: bool) -> None:
        """One batch per executor and task set; but what is sent ahead keeps its order, as the executor
        runs it in the order in which it comes."""
        batches = self._launches.get(executor)
        if batches is None:
            self._launches[executor] = [(tasks, [attempt])]
        elif batches[-1][0] is tasks:
            batches[-1][1].append(attempt)
        elif not ahead and (batch := next((batch for batch in batches if batch[0] is tasks), None)):
            batch[1].append(attempt)
        else:
            batches.append((tasks, [attempt]))

    def finish(self) -> list[Command]:
        out = self.out
        if self._kills:
            for (executor, reason), attempts in self._kills.items():
                if tids := [attempt.tid for attempt in attempts if attempt.state != SETTLED]:
                    out.append(Kill(executor.name, executor.epoch, tids, reason))
            self._kills.clear()
        if self._recalls:
            for executor, attempts in self._recalls.items():
                if tids := [attempt.tid for attempt in attempts if attempt.state == QUEUED and attempt.wanted]:
                    out.append(Recall(executor.name, executor.epoch, tids))
            self._recalls.clear()
        if self._launches:
            for executor, batches in self._launches.items():
                for tasks, batch in batches:
                    stage, shuffles, peers = tasks.stage.id, tasks.shuffles, tasks.peers
                    out.append(Launch(executor.name, executor.epoch, stage, batch, shuffles, peers))
            self._launches.clear()
        self.out = []
        return out

"""What the parts of the machine share during one ``handle()`` call: the time, and the commands so far."""

from __future__ import annotations

from collections.abc import Sequence

from asparkle.core.scheduler.messages import Command, Emit, Kill, Launch, Recall, SchedulerConf, Task
from asparkle.core.scheduler.records import Executor
from asparkle.core.scheduler.tasksets import TaskSet
from asparkle.core.scheduler.timers import Timers


class Turn:
    """Kills, recalls and launches are gathered by executor, and come after all other commands."""

    def __init__(self, conf: SchedulerConf, listening: bool) -> None:
        self.conf = conf
        self.listening = listening
        self.now = 0.0
        self.timers = Timers()
        self.out: list[Command] = []
        self.launches: dict[tuple[Executor, TaskSet], list[Task]] = {}
        self._kills: dict[tuple[Executor, str], list[int]] = {}
        self._recalls: dict[Executor, list[int]] = {}

    def emit(self, event: object) -> None:
        self.out.append(Emit(event))

    def kill(self, executor: Executor, tid: int, reason: str) -> None:
        self._kills.setdefault((executor, reason), []).append(tid)

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
        if self.launches:
            for (executor, tasks), attempts in self.launches.items():
                out.append(
                    Launch(
                        executor.name, executor.epoch, tasks.stage.id, attempts, tasks.shuffles, tasks.peers
                    )
                )
            self.launches.clear()
        self.out = []
        return out

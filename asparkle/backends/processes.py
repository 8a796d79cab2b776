"""Executors as processes of this machine: one slot each, started by a warm process of their own.

This module is all that is imported before that process is started; what talks to it comes after.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from asparkle.backends.launch import ZygoteProcess, reap
from asparkle.plugins import AppSpec, Cluster, ClusterManager


class ProcessesManager(ClusterManager):
    """Master URLs ``processes[N]`` and ``local[N]``."""

    def __init__(self) -> None:
        self._zygote: ZygoteProcess | None = None

    def prestart(self, app: AppSpec, executors: int) -> None:
        self._zygote = ZygoteProcess(app, executors)

    def abandon(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            reap(self._zygote.pid)
            self._zygote = None

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        from asparkle.backends.process_cluster import ProcessCluster

        zygote = self._zygote or ZygoteProcess(app)
        self._zygote = None
        return ProcessCluster.opened(app, zygote)

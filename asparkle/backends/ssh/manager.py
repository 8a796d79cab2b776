"""Master URLs ``ssh://...`` and ``ssh:nodes.toml``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from asparkle.backends.ssh.nodes import least_slots, parse_nodes
from asparkle.plugins import AppSpec, Cluster, ClusterManager


class SshManager(ClusterManager):
    """Executors on nodes that are reached by ssh: one for each slot, as many as CPUs where it is not said."""

    def executors(self, url: str) -> int:
        return least_slots(parse_nodes(url))

    def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
        from asparkle.backends.ssh.cluster import Settings, SshCluster

        return SshCluster.opened(app, parse_nodes(app.master), Settings.of(app))

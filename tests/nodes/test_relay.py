"""What the driver does for a node that wants to speak to a file server."""

from __future__ import annotations

import os
import resource
import socket
from typing import Any

import anyio
import pytest

from asparkle import SparkConf
from asparkle.backends.ssh.cluster import Settings, SshCluster
from asparkle.backends.ssh.link import Link, LinkChannel
from asparkle.backends.ssh.mux import Closed, Mux
from asparkle.newapplication import new_application
from asparkle.plugins import pack


@pytest.mark.anyio
async def test_without_descriptors_a_node_is_refused_and_the_driver_lives() -> None:
    app = new_application(None, None, SparkConf().setMaster("ssh://nowhere").setAppName("relay"), ()).spec
    ours, theirs = socket.socketpair()
    with theirs:
        async with anyio.create_task_group() as tasks:
            cluster = SshCluster(app, tasks, [], Settings.of(app))

            def opened(channel: LinkChannel, purpose: list[Any]) -> None:
                _, host = purpose
                before = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
                try:
                    cluster.relay(channel, host)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, before)

            link = Link(ours, tasks, lambda message: None, opened)
            tasks.start_soon(link.run)
            agent = Mux(driver=False)
            number = agent.open(pack(["files", ""]))
            theirs.setblocking(False)
            theirs.sendall(agent.outgoing())
            await anyio.wait_readable(theirs)
            assert agent.feed(theirs.recv(1 << 16)) == [Closed(number)]
            await cluster.close()
            tasks.cancel_scope.cancel()

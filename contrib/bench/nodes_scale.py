"""What many nodes cost the driver: latency and CPU per task, with simulated agents.

    python -m contrib.bench.nodes_scale [--nodes N] [--slots N]

The driver is the real one: scheduler, channels, links, over a socket for each node.  At the other end of all of them is
one process that speaks for the agents and their workers, and answers each task at once; its time does not count.
"""

from __future__ import annotations

import argparse
import pickle
import selectors
import socket
import statistics
import subprocess
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

from asparkle.backends.ssh.mux import CONTROL, Arrived, Mux, Opened
from asparkle.core.protocol import MessageReader, encode
from asparkle.plugins import Unpacker, pack

ONE = pickle.dumps(1, protocol=5)


class SimulatedAgent:
    """One agent and its workers."""

    def __init__(self, connection: socket.socket, slots: int) -> None:
        self.connection = connection
        self.slots = slots
        self.mux = Mux(driver=False)
        self.messages = Unpacker()
        self.workers: dict[int, MessageReader] = {}
        self.unsent = bytearray()

    def on_readable(self) -> bool:
        from asparkle.core.protocol import Ready

        data = self.connection.recv(1 << 18)
        for event in self.mux.feed(data):
            if isinstance(event, Opened):
                self.workers[event.channel] = MessageReader()
                self.mux.send(event.channel, encode([Ready(1)]))
            elif isinstance(event, Arrived) and event.channel == CONTROL:
                self.mux.taken(CONTROL, len(event.data))
                if any(message[0] == "app" for message in self.messages.feed(event.data)):
                    self.mux.send(CONTROL, pack(["ready", {"directories": ["/nowhere"], "address": ["", 0]}]))
            elif isinstance(event, Arrived):
                self.mux.taken(event.channel, len(event.data))
                self.work(event.channel, event.data)
        while out := self.mux.outgoing():
            self.connection.sendall(out)
        return bool(data)

    def work(self, channel: int, data: bytes) -> None:
        from asparkle.core.protocol import Run, Succeeded

        reports = [
            Succeeded(task[0], 0.0, ONE)
            for message in self.workers[channel].feed(data)
            if type(message) is Run
            for task in message.tasks
        ]
        if reports:
            self.mux.send(channel, encode(reports))


def simulate(fds: list[int], slots: int) -> None:
    """Be all agents, until the driver is gone."""
    selector = selectors.DefaultSelector()
    for fd in fds:
        connection = socket.socket(fileno=fd)
        selector.register(connection, selectors.EVENT_READ, SimulatedAgent(connection, slots))
    while selector.get_map():
        for key, _ in selector.select():
            if not key.data.on_readable():
                selector.unregister(key.fileobj)


# ------------------------------------------------------------------------------------------------ the driver


def measure(nodes: int, slots: int) -> None:
    from asparkle import SparkConf, SparkContext
    from asparkle.backends.ssh.cluster import ConnectedNode, Settings, SshCluster
    from asparkle.backends.ssh.nodes import Node
    from asparkle.plugins import AppSpec, Cluster, ClusterManager, hookimpl

    pairs = [socket.socketpair() for _ in range(nodes)]
    theirs = [pair[1].fileno() for pair in pairs]
    arguments = [f"--slots={slots}", f"--agents={','.join(map(str, theirs))}"]
    simulator = subprocess.Popen([sys.executable, "-m", "contrib.bench.nodes_scale", *arguments], pass_fds=theirs)
    for _, end in pairs:
        end.close()
    ends = iter([pair[0] for pair in pairs])

    class Ssh:
        def __init__(self) -> None:
            self.stream = next(ends)
            self.stream.setblocking(False)
            self.passes_on = False

        async def end(self) -> tuple[int, bytes]:
            return 0, b""

    class SimulatedCluster(SshCluster):
        async def _connected(self, node: Node) -> str:
            return await ConnectedNode(self, node, Ssh(), {"cpus": slots}, b"").run()  # type: ignore[arg-type]

    class Manager(ClusterManager):
        def executors(self, url: str) -> int:
            return nodes * slots

        def open(self, app: AppSpec) -> AbstractAsyncContextManager[Cluster]:
            inventory = [Node(f"node{i}", f"node{i}", slots=slots) for i in range(nodes)]
            return SimulatedCluster.opened(app, inventory, Settings.of(app))

    class Plugin:
        @hookimpl
        def asparkle_cluster_managers(self) -> dict[str, Any]:
            return {"simulated": Manager}

    began = time.perf_counter()
    with SparkContext(conf=SparkConf().setMaster("simulated://x").setAppName("scale"), plugins=[Plugin()]) as context:
        all_slots = nodes * slots
        context.parallelize(range(all_slots), all_slots).count()
        print(f"{nodes} nodes x {slots} slots: first job of {all_slots} tasks {time.perf_counter() - began:.2f} s")
        print(f"{'tasks':>8} {'jobs':>6} {'p50, ms':>9} {'p99, ms':>9} {'driver CPU per task, us':>24}")
        for tasks, jobs in ((1, 500), (all_slots, 30), (10 * all_slots, 5)):
            rdd = context.parallelize(range(tasks), tasks)
            rdd.count()
            times, cpu = [], time.process_time()
            for _ in range(jobs):
                began = time.perf_counter()
                assert rdd.count() == tasks
                times.append(1000 * (time.perf_counter() - began))
            cpu = (time.process_time() - cpu) / jobs / tasks * 1e6
            times.sort()
            p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
            print(f"{tasks:8} {jobs:6} {statistics.median(times):9.2f} {p99:9.2f} {cpu:24.1f}")
    simulator.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--agents", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agents:
        simulate([int(fd) for fd in options.agents.split(",")], options.slots)
    else:
        measure(options.nodes, options.slots)


if __name__ == "__main__":
    main()

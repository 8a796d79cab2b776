"""Requests to a local HTTP server from two workers: coroutines on each worker's event loop, against threads.

    python -m contrib.bench.http_requests [--requests 10000] [--concurrency 200] [--latency 0.05] [--rounds 3]

The server is a process of its own, which answers each request after ``--latency`` seconds.  Both clients keep
their connections open, and write and read the same bytes: one with asyncio's streams, the other with blocking
sockets in a `ThreadPoolExecutor` of as many threads in each task as the other has calls under way.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asparkle import SparkContext, WorkerResource

BODY = b"x" * 200
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
WORKERS = 2


class Server(asyncio.Protocol):
    """Answers each request that ends with an empty line."""

    latency = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for _ in requests:
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, ANSWER)


async def serve(latency: float) -> None:
    Server.latency = latency
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def request(x: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % x


# ------------------------------------------------------------------------------------------ coroutines


class Connections:
    """Open connections that nobody uses at the moment."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, x: int) -> int:
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(x))
        answer = await reader.readexactly(len(ANSWER))
        self.idle.append((reader, writer))
        return int(answer[9:12])


def with_coroutines(sc: SparkContext, port: int, requests: int, concurrency: int) -> int:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Connections]:
        connections = Connections(port)
        yield connections
        for _, writer in connections.idle:
            writer.close()

    connections = WorkerResource(connect)

    async def get(x: int) -> int:
        return await (await connections).get(x)

    found: int = sc.range(requests, numSlices=WORKERS).map(get, concurrency=concurrency).sum()
    return found


# --------------------------------------------------------------------------------------------- threads


def with_threads(sc: SparkContext, port: int, requests: int, concurrency: int) -> int:
    def get_all(elements: Iterator[int]) -> Iterator[int]:
        mine = threading.local()

        def get(x: int) -> int:
            if not hasattr(mine, "connection"):
                mine.connection = socket.create_connection(("127.0.0.1", port))
                mine.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            mine.connection.sendall(request(x))
            answer = b""
            while len(answer) < len(ANSWER):
                answer += mine.connection.recv(len(ANSWER) - len(answer))
            return int(answer[9:12])

        with ThreadPoolExecutor(concurrency) as pool:
            yield from pool.map(get, elements)

    found: int = sc.range(requests, numSlices=WORKERS).mapPartitions(get_all).sum()
    return found


def measure(
    client: Callable[[SparkContext, int, int, int], int], port: int, requests: int, concurrency: int
) -> tuple[float, float]:
    """Seconds, and CPU seconds of the workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with SparkContext(f"processes[{WORKERS}]", "requests") as sc:
        sc.range(100, numSlices=WORKERS).count()
        began = time.perf_counter()
        assert client(sc, port, requests, concurrency) == 200 * requests
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="coroutines in tasks against threads in tasks")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.latency))
    command = [sys.executable, "-m", "contrib.bench.http_requests", "--serve", "--latency", str(options.latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            clients = {
                f"map(get, concurrency={options.concurrency})": with_coroutines,
                f"mapPartitions, {options.concurrency} threads": with_threads,
            }
            print(f"{options.requests:,} requests, {WORKERS} workers, answers after {options.latency * 1000:g} ms")
            print(f"{'':32} {'seconds':>8} {'requests/s':>11} {'CPU s':>7}")
            for name, client in clients.items():
                rounds = [measure(client, port, options.requests, options.concurrency) for _ in range(options.rounds)]
                seconds, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(f"{name:32} {seconds:8.2f} {options.requests / seconds:11,.0f} {cpu:7.2f}")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()

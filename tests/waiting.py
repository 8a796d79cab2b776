"""How tests wait: until something is so, with a generous deadline, and never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

SECONDS = 60  # a busy machine may take long


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true, and let other tasks of the event loop run."""
    with anyio.fail_after(SECONDS):
        while not condition():
            await anyio.sleep(0.01)


def wait_until(condition: Callable[[], object]) -> None:
    """The same in a thread without an event loop."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not so after {SECONDS} seconds"
        time.sleep(0.01)

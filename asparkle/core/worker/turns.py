"""A worker's turns of the rates that all workers share: the other half of `asparkle.core.rates.TurnDealer`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from asparkle.core.rates import Rate


class Turns:
    """``ask``: asks the driver for turns of a rate; the answer comes to `dealt`.  All of it is called on ``loop``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Callable[[Rate, int], None]) -> None:
        self._loop = loop
        self._ask = ask
        self._rates: dict[Rate, _Waiting] = {}

    async def wait(self, rate: Rate) -> None:
        """For a turn of ``rate``."""
        turns = self._rates.setdefault(rate, _Waiting())
        mine = self._loop.create_future()
        turns.waiting.append(mine)
        self._ask_for(rate, turns)
        at: float = await mine
        await asyncio.sleep(at - self._loop.time())

    def dealt(self, rate: Rate, wait: float) -> None:
        """The driver's answer: seconds until the first of the turns that it was asked for."""
        turns = self._rates[rate]
        first = self._loop.time() + wait
        for i in range(turns.asked):
            while turns.waiting and turns.waiting[0].cancelled():
                turns.waiting.popleft()
            if turns.waiting:
                turns.waiting.popleft().set_result(first + i * rate.interval)
        # The next ones when these have gone, or this worker would take all turns of the near future.
        self._loop.call_at(first + (turns.asked - 1) * rate.interval, self._rested, rate, turns)

    def _ask_for(self, rate: Rate, turns: _Waiting) -> None:
        while turns.waiting and turns.waiting[0].cancelled():
            turns.waiting.popleft()
        if turns.waiting and not turns.resting:
            turns.resting = True
            turns.asked = min(len(turns.waiting), rate.batch)
            self._ask(rate, turns.asked)

    def _rested(self, rate: Rate, turns: _Waiting) -> None:
        turns.resting = False
        self._ask_for(rate, turns)
        if not turns.resting:
            del self._rates[rate]


class _Waiting:
    """Who waits for a turn of one rate, and how many turns the driver was asked for at last.

    ``resting``: no more are asked for yet.
    """

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[float]] = deque()
        self.asked = 0
        self.resting = False

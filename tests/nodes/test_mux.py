"""Channels over one stream: what is sent on one arrives there, whole and in order, however frames are cut."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.backends.ssh.mux import CONTROL, HEADER, MOST, WINDOW, Arrived, BrokenFrames, Closed, Mux, Opened


class Side:
    """A `Mux` and what it has heard."""

    def __init__(self, driver: bool) -> None:
        self.mux = Mux(driver=driver)
        self.wire = bytearray()
        self.opened: dict[int, bytes] = {}
        self.arrived: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.untaken: defaultdict[int, int] = defaultdict(int)
        self.closed: list[int] = []

    def write(self, most: int) -> bool:
        out = self.mux.outgoing(most)
        self.wire += out
        return bool(out)

    def read(self, other: Side, count: int) -> None:
        data = bytes(other.wire[:count])
        del other.wire[:count]
        for event in self.mux.feed(data):
            if isinstance(event, Opened):
                self.opened[event.channel] = event.purpose
            elif isinstance(event, Arrived):
                self.arrived[event.channel] += event.data
                self.untaken[event.channel] += len(event.data)
            else:
                self.closed.append(event.channel)

    def take(self) -> None:
        for channel, count in self.untaken.items():
            self.mux.taken(channel, count)
        self.untaken.clear()


def settle(a: Side, b: Side) -> None:
    """Until nothing is under way."""
    while a.write(1 << 20) | b.write(1 << 20) | bool(a.wire) | bool(b.wire):
        b.read(a, 1 << 30)
        a.read(b, 1 << 30)
        a.take()
        b.take()


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_each_channel_is_a_stream_of_its_own(seed: int, steps: int) -> None:
    random_ = random.Random(seed)
    sides = Side(True), Side(False)
    sent: tuple[defaultdict[int, bytearray], ...] = (defaultdict(bytearray), defaultdict(bytearray))
    channels: list[list[int]] = [[CONTROL], [CONTROL]]
    purposes: dict[int, bytes] = {}
    for _ in range(steps):
        me = random_.randrange(2)
        side, other = sides[me], sides[1 - me]
        choice = random_.random()
        if choice < 0.1:
            purpose = random_.randbytes(random_.randrange(9))
            channel = side.mux.open(purpose)
            purposes[channel] = purpose
            channels[me].append(channel)
        elif choice < 0.5:
            channel = random_.choice(channels[me] + [c for c in side.opened])
            data = random_.randbytes(random_.choice([1, 10, 1000, MOST, 3 * MOST + 7, WINDOW]))
            side.mux.send(channel, data)
            sent[me][channel] += data
        elif choice < 0.7:
            side.write(random_.choice([1, 100, MOST, 10 * MOST]))
        elif choice < 0.9:
            side.read(other, random_.choice([1, 5, 100, MOST, 1 << 20]))
        else:
            side.take()
    settle(*sides)
    for me in range(2):
        assert {c: bytes(d) for c, d in sides[1 - me].arrived.items() if d} == {
            c: bytes(d) for c, d in sent[me].items() if d
        }
        assert all(sides[1 - me].opened[c] == purposes[c] for c in channels[me] if c != CONTROL)


def test_a_reader_that_takes_nothing_holds_up_its_own_channel_alone() -> None:
    a, b = Side(True), Side(False)
    stuck, free = a.mux.open(b"stuck"), a.mux.open(b"free")
    a.mux.send(stuck, bytes(5 * WINDOW))
    while a.write(1 << 20):
        b.read(a, 1 << 30)
    assert len(b.arrived[stuck]) == WINDOW and not a.mux.has_outgoing
    a.mux.send(free, bytes(10 * WINDOW))
    b.untaken.clear()
    for _ in range(100):
        a.write(1 << 20)
        b.read(a, 1 << 30)
        b.mux.taken(free, b.untaken.pop(free, 0))
        b.write(1 << 20)
        a.read(b, 1 << 30)
    assert (len(b.arrived[stuck]), len(b.arrived[free])) == (WINDOW, 10 * WINDOW)
    b.mux.taken(stuck, WINDOW)
    settle(a, b)
    assert len(b.arrived[stuck]) == 5 * WINDOW


def test_what_is_short_overtakes_what_is_long() -> None:
    a, b = Side(True), Side(False)
    long, short = a.mux.open(b""), a.mux.open(b"")
    a.mux.send(long, bytes(WINDOW))
    a.write(1)
    a.mux.send(short, b"soon")
    a.mux.send(CONTROL, b"first")
    a.write(2 * MOST)
    b.read(a, 1 << 30)
    assert (bytes(b.arrived[CONTROL]), bytes(b.arrived[short])) == (b"first", b"soon")
    assert 0 < len(b.arrived[long]) <= 3 * MOST


def test_what_was_sent_before_closing_arrives_and_then_the_end() -> None:
    a, b = Side(True), Side(False)
    channel = a.mux.open(b"")
    a.mux.send(channel, bytes(3 * WINDOW))
    a.mux.close(channel)
    a.mux.send(channel, b"too late")
    settle(a, b)
    assert (len(b.arrived[channel]), b.closed) == (3 * WINDOW, [channel])


def test_closed_at_once_nothing_more_arrives_on_either_side() -> None:
    a, b = Side(True), Side(False)
    channel = a.mux.open(b"")
    settle(a, b)
    b.mux.send(channel, bytes(WINDOW))
    a.mux.send(channel, bytes(WINDOW))
    a.mux.close(channel, at_once=True)
    settle(a, b)
    assert (a.arrived, b.arrived, a.closed, b.closed) == ({}, {}, [], [channel])
    other = a.mux.open(b"next")
    a.mux.send(other, b"and on")
    settle(a, b)
    assert bytes(b.arrived[other]) == b"and on"


def test_both_sides_may_close_at_the_same_time() -> None:
    a, b = Side(True), Side(False)
    channel = a.mux.open(b"")
    settle(a, b)
    a.mux.close(channel)
    b.mux.close(channel)
    settle(a, b)
    assert a.closed == b.closed == []
    assert a.mux.unsent(channel) == b.mux.unsent(channel) == 0


def test_what_is_still_in_line_is_dropped_when_the_other_side_closes_too() -> None:
    a, b = Mux(driver=True), Mux(driver=False)
    channel = a.open(b"")
    a.send(channel, bytes(3 * WINDOW))
    a.close(channel)
    b.feed(bytes(a.outgoing(2 * WINDOW)))  # of which nobody takes anything
    assert a.unsent(channel) == 2 * WINDOW
    b.close(channel, at_once=True)
    a.feed(bytes(b.outgoing()))
    assert a.unsent(channel) == 0


@pytest.mark.parametrize(
    "frame",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEADER.pack(0, 1, MOST + 1),
        HEADER.pack(0, 9, 0),
        HEADER.pack(0, 0, 0),
        HEADER.pack(3, 0, 0),
        HEADER.pack(0, 3, 1) + b"x",
        HEADER.pack(0, 1, MOST) + bytes(MOST),
    ],
)
def test_what_no_mux_sends_is_refused(frame: bytes) -> None:
    mux = Mux(driver=False)
    with pytest.raises(BrokenFrames):
        for _ in range(WINDOW // MOST + 1):
            mux.feed(frame)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    mux = Mux(driver=True)
    try:
        events = mux.feed(data)
    except BrokenFrames:
        return
    assert all(isinstance(event, (Opened, Arrived, Closed)) for event in events)

"""A loop that waits for an answer looks for a moment before it sleeps."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from machine_lifecycle.system.alert_selector import AlertSelector

SHORT = 0.001


class Clock:
    """Each look takes ten microseconds."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks * 10e-6


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def made(clock: Clock, ours: socket.socket, *, due: bool, processors: int = 2) -> AlertSelector:
    selector = AlertSelector(clock=clock, processors=processors)
    selector.register(ours, selectors.EVENT_READ)
    selector.due = lambda: due
    return selector


def test_what_is_there_is_found(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    for due in (True, False):
        with made(Clock(), ours, due=due) as selector:
            ((key, events),) = selector.select(None)
            assert (key.fileobj, events) == (ours, selectors.EVENT_READ)


def test_it_sleeps_at_once_where_nothing_is_due(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    clock = Clock()
    with made(clock, pair[0], due=False) as selector:
        assert selector.select(SHORT) == []
    assert clock.looks == 0


def test_with_one_processor_it_sleeps_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    clock = Clock()
    with made(clock, pair[0], due=True, processors=1) as selector:
        assert selector.select(SHORT) == []
    assert clock.looks == 0


def test_a_look_in_passing_is_one(pair: tuple[socket.socket, socket.socket]) -> None:
    clock = Clock()
    with made(clock, pair[0], due=True) as selector:
        assert selector.select(0) == []
    assert clock.looks == 0


def test_it_looks_less_and_less_for_what_does_not_come_soon(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    clock, looked = Clock(), []
    with made(clock, ours, due=True) as selector:
        for _ in range(7):
            before = clock.looks
            assert selector.select(SHORT) == []
            looked.append(clock.looks - before)
        assert looked[0] > 15
        assert looked[0] > looked[2] > looked[-1]
        assert looked[-1] < 4
        theirs.send(b"x")
        assert selector.select(SHORT)
        ours.recv(1)
        before = clock.looks
        assert selector.select(SHORT) == []
        assert clock.looks - before > 15, "it came soon, and so will the next"


def test_it_looks_no_longer_than_it_was_to_sleep(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    clock = Clock()
    with made(clock, pair[0], due=True) as selector:
        assert selector.select(30e-6) == []
    assert clock.looks < 8

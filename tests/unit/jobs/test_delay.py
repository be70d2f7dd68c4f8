"""One timer for many, and calls after some rounds of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from machine_lifecycle.jobs.delay import Delay, Rounds
from tests.support.patience import PATIENCE


async def test_each_is_called_once_and_in_order_unless_it_was_called_off() -> None:
    delay, called, done = Delay(0.5), list[str](), asyncio.Event()

    def first() -> None:
        called.append("first")

    def dropped() -> None:
        called.append("dropped")

    def last() -> None:
        called.append("last")
        done.set()

    delay.call(first)
    delay.call(dropped)
    delay.call_off(dropped)
    await asyncio.sleep(0.01)  # sleep: so that they are due one after the other
    delay.call(last)
    delay.call_off(print)
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    assert called == ["first", "last"]


async def test_it_begins_anew_after_all_were_called_off() -> None:
    delay, called = Delay(0.01), asyncio.Event()
    delay.call(called.set)
    delay.call_off(called.set)
    await asyncio.sleep(0.03)  # sleep: past the delay
    assert not called.is_set()
    delay.call(called.set)
    async with asyncio.timeout(PATIENCE):
        await called.wait()


async def test_one_that_is_called_off_when_it_is_due_is_not_called() -> None:
    delay, called, done = Delay(0), list[str](), asyncio.Event()

    def second() -> None:
        called.append("second")

    def first() -> None:
        called.append("first")
        delay.call_off(second)

    for each in (first, second, done.set):
        delay.call(each)
    async with asyncio.timeout(30):
        await done.wait()
    assert called == ["first"]


async def test_one_that_raises_costs_the_others_nothing() -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, facts: faults.append(facts))
    delay, called, done = Delay(0.01), list[str](), asyncio.Event()

    def broken() -> None:
        called.append("broken")
        delay.call(again)
        raise ValueError("a fault of its own")

    def again() -> None:
        called.append("again")
        done.set()

    delay.call(broken)
    delay.call(lambda: called.append("next"))
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    assert called == ["broken", "next", "again"]
    assert [str(fault["exception"]) for fault in faults] == ["a fault of its own"]


async def test_calls_come_after_so_many_rounds_in_their_order() -> None:
    rounds, called = Rounds(3), list[str]()
    rounds.call(lambda: called.append("first"))
    await asyncio.sleep(0)
    rounds.call(lambda: called.append("second"))
    seen = []
    for _ in range(4):
        await asyncio.sleep(0)
        seen.append(list(called))
    assert seen == [[], ["first"], ["first", "second"], ["first", "second"]]


async def test_calls_that_wait_can_be_made_at_once_and_only_then() -> None:
    rounds, called = Rounds(3), list[str]()
    rounds.call(lambda: called.append("first"))
    rounds.call(lambda: called.append("second"))
    rounds.flush()
    assert called == ["first", "second"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert called == ["first", "second"]

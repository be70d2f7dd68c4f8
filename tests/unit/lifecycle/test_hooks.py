"""Observers hear everything in order, and can harm nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from machine_lifecycle.lifecycle.events import (
    Changed,
    ConditionChanged,
    Event,
    EventsDropped,
    JobStarted,
    MachineStopped,
)
from machine_lifecycle.lifecycle.hooks import QUEUE_LENGTH, EventBus
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.clock import SystemClock
from tests.support.patience import PATIENCE


@pytest.fixture
def bus() -> EventBus:
    made = EventBus(SystemClock())
    made.machine_id = "m"
    return made


def job(number: int) -> JobStarted:
    return JobStarted(job_id=f"j{number}", worker_id="w")


async def test_events_are_numbered_stamped_and_in_order(bus: EventBus) -> None:
    heard: list[Event] = []
    bus.on(Event, heard.append)
    for number in range(3):
        bus.emit(job(number))
    await bus.close()
    assert [event.seq for event in heard] == [1, 2, 3]
    assert {event.machine_id for event in heard} == {"m"}
    assert heard[0].at > 0


async def test_an_observer_hears_only_its_kinds(bus: EventBus) -> None:
    heard: list[Event] = []
    bus.on(ConditionChanged, heard.append)
    bus.emit(job(1))
    bus.emit(ConditionChanged(condition="degraded", holds=True))
    await bus.close()
    assert [type(event) for event in heard] == [ConditionChanged]


async def test_one_that_raises_is_switched_off_and_harms_no_other(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Event] = []
    heard: list[Event] = []

    def bad(event: Event) -> None:
        calls.append(event)
        raise ValueError("mine")

    bus.on(Event, bad)
    bus.on(Event, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.emit(job(1))
        bus.emit(job(2))
        await bus.close()
    assert (len(calls), len(heard)) == (1, 2)
    assert "switched off" in caplog.text


async def test_a_coroutine_observer_gets_events_one_after_the_other(bus: EventBus) -> None:
    spans: list[str] = []

    async def slow(event: JobStarted) -> None:
        spans.append(f"{event.job_id} begins")
        await asyncio.sleep(0)
        spans.append(f"{event.job_id} ends")

    bus.on(JobStarted, slow)
    bus.emit(job(1))
    bus.emit(job(2))
    await bus.close()
    assert spans == ["j1 begins", "j1 ends", "j2 begins", "j2 ends"]


async def test_a_slow_observer_loses_the_oldest_and_is_told(bus: EventBus) -> None:
    subscription = bus.subscribe()
    for number in range(QUEUE_LENGTH + 5):
        bus.emit(job(number))
    subscription.close()
    heard = [event async for event in subscription]
    assert isinstance(heard[0], EventsDropped)
    assert heard[0].count == 5
    assert heard[1].seq == 6
    assert len(heard) == QUEUE_LENGTH + 1


async def test_an_ended_observer_hears_no_more(bus: EventBus) -> None:
    heard: list[Event] = []
    end = bus.on(Event, heard.append)
    end()
    bus.emit(job(1))
    await bus.close()
    assert heard == []


async def test_the_stream_ends_with_the_machine(bus: EventBus) -> None:
    subscription = bus.subscribe()
    bus.emit(MachineStopped(exit_code=0))
    assert [type(event) async for event in subscription] == [MachineStopped]


async def test_an_observer_that_hangs_does_not_hold_the_end(bus: EventBus) -> None:
    async def hang(_: Event) -> None:
        await asyncio.Event().wait()

    bus.on(Event, hang)
    bus.emit(job(1))
    async with asyncio.timeout(PATIENCE):
        await bus.close(patience=0.05)


def test_the_wire_form_has_the_kind_and_every_field() -> None:
    event = Changed(
        source=MachineState.STARTING,
        target=MachineState.INSTALLING,
        trigger="plan_made",
        why="w",
        seconds=1.5,
    )
    assert event.to_wire() == {
        "kind": "changed",
        "seq": 0,
        "at": 0.0,
        "machine_id": "",
        "attempt": 1,
        "source": "starting",
        "target": "installing",
        "trigger": "plan_made",
        "why": "w",
        "seconds": 1.5,
    }

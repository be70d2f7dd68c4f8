"""Critical errors that the driver tells of, from its thread to a service that is taken out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from machine_lifecycle.assembly.gpu_events import GpuEvents
from machine_lifecycle.lifecycle.events import ConditionChanged
from machine_lifecycle.machine import Machine
from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.model.processes import ProcessState
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.nvml import XidEvent
from tests.integration.test_machine_python import ENVIRON, make
from tests.support.patience import PATIENCE

__all__ = ["make"]

OFF = XidEvent(number=79, uuids=("GPU-0",))
FAULT = XidEvent(number=31, uuids=("GPU-1",))


async def test_events_come_from_a_thread_into_the_loop_until_it_is_closed() -> None:
    heard: list[tuple[XidEvent, threading.Thread]] = []
    first, more = asyncio.Event(), threading.Event()
    ended = threading.Event()

    def read(stopped: Callable[[], bool]) -> Iterator[XidEvent]:
        yield OFF
        assert more.wait(PATIENCE)
        assert stopped()
        yield FAULT
        ended.set()

    def hear(event: XidEvent) -> None:
        heard.append((event, threading.current_thread()))
        first.set()

    events = GpuEvents(heard=hear, read=read)
    events.start(Hardware(source=GpuSource.NVML))
    events.start(Hardware(source=GpuSource.NVML))  # once is enough
    await asyncio.wait_for(first.wait(), PATIENCE)
    events.close()
    more.set()
    await asyncio.sleep(0)
    assert heard == [(OFF, threading.main_thread())]
    assert not ended.is_set()


@pytest.mark.parametrize("source", [GpuSource.MOCK, GpuSource.NVIDIA_SMI, GpuSource.NONE])
async def test_without_a_driver_that_tells_nobody_listens(source: GpuSource) -> None:
    asked: list[object] = []

    def read(stopped: Callable[[], bool]) -> Iterator[XidEvent]:
        asked.append(stopped)
        return iter(())

    GpuEvents(heard=lambda _: None, read=read).start(Hardware(source=source))
    await asyncio.sleep(0)
    assert asked == []


async def test_a_gpu_off_the_bus_is_taken_out_and_others_go_on(
    make: Callable[..., Settings],
) -> None:
    settings = make(workers="simulation:2", mock_gpus=2)
    async with Machine.open(settings, environ=ENVIRON, guest=True) as machine:
        told: asyncio.Queue[ConditionChanged] = asyncio.Queue()
        machine.on(ConditionChanged, told.put_nowait)
        await machine.boot()
        parts = machine._parts
        plan = parts.lifecycle.record.plan
        assert plan is not None
        gone, well = (gpu.uuid for gpu in plan.hardware.gpus)
        # One that spoils a process alone, one that nobody here has, and one that changes nothing.
        for number, uuid in ((31, gone), (79, "GPU-of-others"), (63, gone)):
            parts.mending.gpu_told(XidEvent(number=number, uuids=(uuid,)))
        parts.mending.gpu_told(XidEvent(number=79, uuids=(gone,)))
        parts.mending.gpu_told(XidEvent(number=79, uuids=(gone,)))
        change = await asyncio.wait_for(told.get(), PATIENCE)
        assert change.condition == "degraded"
        assert "GPU has fallen off the bus" in change.reason
        assert gone in change.reason
        assert well not in change.reason
        states = {one.name: one.state for one in machine.status().processes}
        assert states["simulation-gpu0"] is ProcessState.FATAL
        assert states["simulation-gpu1"] is ProcessState.RUNNING
        assert told.empty()
        await machine.stop()

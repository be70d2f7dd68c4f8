"""A service waits for the memory of its GPU before it is started anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.assembly.gpu_memory import GpuMemoryGate
from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, ProcessSpec, Role
from machine_lifecycle.model.services import Instance
from tests.support.gpu_memory import StillClock, readings

GPU = Gpu(index=3, name="H100", memory_mib=80, uuid="GPU-3", visible="3")
SPEC = ProcessSpec(name="comfyui-gpu3", role=Role.SERVICE, command=Command(argv=("true",)))


@attrs.define
class Bed:
    """A gate, its clock, and what was told."""

    used: Iterable[int | None]
    gpu: Gpu | None = GPU
    limit: float = 30.0
    clock: StillClock = attrs.field(factory=StillClock)
    told: list[str] = attrs.field(factory=list)
    gate: GpuMemoryGate = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        here = Path("/nowhere")
        instance = Instance(
            id=SPEC.name,
            service="comfyui",
            index=0,
            gpu=self.gpu,
            host="127.0.0.1",
            port=8191,
            paths=Paths(workspace=here, runtime=here),
            home=here,
            data=here,
        )
        self.gate = GpuMemoryGate(
            clock=self.clock,
            read=readings(self.used, holders=((7, 60),)),
            instance=lambda name: instance if name == SPEC.name else None,
            limit=self.limit,
        )

    async def start(self) -> float:
        """Seconds that one start waited."""
        began = self.clock.now
        await self.gate.wait(SPEC, self.told.append)
        return self.clock.now - began


async def test_the_first_start_waits_for_nothing() -> None:
    bed = Bed([90])
    assert await bed.start() == 0
    assert bed.told in ([], [""])


async def test_a_later_one_waits_until_the_memory_is_back() -> None:
    bed = Bed([10, 90, 90, 60, 14, 99])
    await bed.start()
    assert await bed.start() == pytest.approx(0.75)
    assert bed.told[-1] == ""
    assert "memory of GPU 3" in bed.told[-2]


async def test_what_others_hold_from_the_beginning_is_not_waited_for() -> None:
    bed = Bed([70, 72])
    await bed.start()
    assert await bed.start() == 0


async def test_what_somebody_else_took_meanwhile_is_said_and_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bed = Bed([0, 60])
    await bed.start()
    with caplog.at_level(logging.WARNING, "machine_lifecycle.machine"):
        assert 5 <= await bed.start() < 6
    assert "comfyui-gpu3: GPU 3 has" in caplog.text
    assert "process 7" in caplog.text


async def test_a_gpu_that_never_rests_is_waited_for_no_longer_than_asked() -> None:
    bed = Bed([0, *(50 + number % 2 for number in range(1000))], limit=12)
    await bed.start()
    assert 12 <= await bed.start() < 13


@pytest.mark.parametrize(
    "bed",
    [
        Bed([0, 90], limit=0),
        Bed([0, 90], gpu=None),
        Bed([0, 90], gpu=attrs.evolve(GPU, uuid="MOCK-3")),
        Bed([0, 90, None]),
        Bed([None]),
    ],
    ids=["not asked for", "no GPU", "simulated", "the driver went", "no driver"],
)
async def test_where_there_is_nothing_to_wait_for(bed: Bed) -> None:
    await bed.start()
    assert await bed.start() <= 0.25


async def test_a_process_that_is_no_service_is_let_through() -> None:
    bed = Bed([0, 90])
    await bed.gate.wait(attrs.evolve(SPEC, name="redis-worker-comfyui-3"), bed.told.append)
    assert bed.told == []

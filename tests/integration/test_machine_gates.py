"""Gates around a real, simulated machine: they hold it back, and can do nothing else."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle import (
    GatePoint,
    GateRefused,
    LifecycleError,
    Machine,
    MachineFailed,
    MachineState,
    MachineStopped,
    Passage,
    Problems,
    Remedy,
    Settings,
    StepProgressed,
)
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

Open = Callable[..., Any]


@pytest.fixture
def opened() -> Iterator[Open]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))

    @asynccontextmanager
    async def make(**fields: Any) -> AsyncIterator[Machine]:
        defaults: dict[str, Any] = {
            "workspace": folder / "w",
            "runtime_dir": folder / "r",
            "machine_id": folder.name,
            "health_port": 0,
            "simulation_base_port": free_port(count=8),
            "boot_attempts": 2,
            "boot_backoff": 0.01,
        }
        async with Machine.open(
            Settings(**(defaults | fields)), environ={"PATH": "/usr/bin:/bin"}
        ) as machine:
            yield machine

    yield make
    shutil.rmtree(folder)


async def test_each_gate_is_asked_before_what_it_stands_for(opened: Open) -> None:
    seen: list[tuple[str, str]] = []
    async with opened() as machine:

        def look(passage: Passage) -> None:
            seen.append((passage.point.value, machine.state.value))
            assert passage.machine_id == machine.id
            assert passage.plan is not None
            assert passage.plan.workers

        for point in GatePoint:
            machine.gate(point, look)
        await machine.boot()
        await machine.stop()
    assert seen == [
        ("install", "installing"),
        ("launch", "launching"),
        ("ready", "health_check"),
        ("stop", "stopping"),
    ]


async def test_a_gate_holds_the_machine_until_it_lets_go(opened: Open) -> None:
    let_go, waiting = asyncio.Event(), asyncio.Event()
    async with opened() as machine:

        async def wait(_: Passage) -> None:
            await let_go.wait()

        machine.gate(GatePoint.READY, wait, name="the balancer")
        machine.on(
            StepProgressed,
            lambda event: waiting.set() if event.step == "gate the balancer" else None,
        )
        booting = asyncio.create_task(machine.boot())
        await asyncio.wait_for(waiting.wait(), PATIENCE)
        assert machine.status().state == "health_check"
        assert any("gate the balancer" in what for what in machine.status().waiting)
        assert not booting.done()
        let_go.set()
        await asyncio.wait_for(booting, PATIENCE)
        assert machine.state is MachineState.READY


async def test_a_refusal_fails_the_boot_with_its_reason_and_exit_code(opened: Open) -> None:
    def refuse(_: Passage) -> None:
        raise GateRefused(reason="no licence", advice=(Remedy("Buy one", "buy licence"),))

    ended: list[MachineStopped] = []
    async with opened() as machine:
        machine.on(MachineStopped, ended.append)
        machine.gate(GatePoint.INSTALL, refuse, name="licences")
        with pytest.raises(GateRefused, match="licences refuses, before install: no licence"):
            await machine.boot()
        code = await machine.wait()
        failure = machine.status().failure
    assert code == 4, "and no second attempt was made: it would be refused again"
    assert failure is not None
    assert failure["code"] == "gate-refused"
    assert failure["remedies"] == [{"text": "Buy one", "command": "buy licence"}]


async def test_a_gate_that_says_nothing_fails_the_attempt(opened: Open) -> None:
    asked: list[int] = []

    async def dawdle(passage: Passage) -> None:
        asked.append(passage.attempt)
        if passage.attempt == 1:
            await asyncio.Event().wait()

    async with opened() as machine:
        failures: list[MachineFailed] = []
        machine.on(MachineFailed, failures.append)
        machine.gate(GatePoint.LAUNCH, dawdle, name="slow", deadline=0.05)
        await machine.boot()
    assert [failure.error["code"] for failure in failures] == ["gate-too-late"]
    assert asked == [1, 2], "the second attempt was let through"


async def test_all_refusals_of_a_point_are_told(opened: Open) -> None:
    def refusing(reason: str) -> Callable[[Passage], None]:
        def refuse(_: Passage) -> None:
            raise GateRefused(reason=reason)

        return refuse

    async with opened() as machine:
        machine.gate(GatePoint.INSTALL, refusing("one"), name="first")
        machine.gate(GatePoint.INSTALL, refusing("two"), name="second")
        with pytest.raises(Problems) as told:
            await machine.boot()
    assert [part.summary for part in told.value.parts()] == [
        "first refuses, before install: one",
        "second refuses, before install: two",
    ]


async def test_a_gate_that_is_taken_away_is_not_asked(opened: Open) -> None:
    asked: list[Passage] = []
    async with opened() as machine:
        remove = machine.gate(GatePoint.INSTALL, asked.append)
        remove()
        remove()
        await machine.boot()
    assert asked == []


async def test_nothing_prevents_a_stop(opened: Open) -> None:
    def refuse(_: Passage) -> None:
        raise GateRefused(reason="not now")

    async with opened() as machine:
        machine.gate(GatePoint.STOP, refuse, name="stubborn")
        await machine.boot()
        await machine.stop()
        assert machine.state is MachineState.STOPPED
        told = machine.status().later_failures
    assert [failure["code"] for failure in told] == ["gate-refused"]


async def test_a_mistake_in_a_gate_is_a_fault_that_says_where(opened: Open) -> None:
    def broken(_: Passage) -> None:
        raise KeyError("oops")

    async with opened(boot_attempts=1) as machine:
        machine.gate(GatePoint.READY, broken)
        with pytest.raises(LifecycleError) as told:
            await machine.boot()
    assert told.value.code == "internal-fault"
    assert "KeyError" in told.value.summary

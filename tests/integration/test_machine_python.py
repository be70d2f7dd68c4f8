"""The machine as other programs use it: opened, booted, heard and stopped from Python."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest

from machine_lifecycle import (
    Changed,
    Event,
    LifecycleError,
    Machine,
    MachineFailed,
    MachineReady,
    MachineState,
    MachineStopped,
    ProcessChanged,
    RedisMode,
    Settings,
    open_job_queue,
)
from machine_lifecycle.assembly.commands import Reloaded
from machine_lifecycle.model.processes import ProcessState, ProcessStatus
from machine_lifecycle.system.redis import connect
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_server import ValkeyServer

ENVIRON: Mapping[str, str] = {"PATH": "/usr/bin:/bin"}
Make = Callable[..., Settings]


@pytest.fixture
def make() -> Iterator[Make]:
    """Settings of machines that don't meet."""
    folders: list[Path] = []

    def made(**fields: Any) -> Settings:
        folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        folders.append(folder)
        defaults: dict[str, Any] = {
            "workspace": folder / "w",
            "runtime_dir": folder / "r",
            "machine_id": folder.name,
            "health_port": 0,
            "simulation_base_port": free_port(count=8),
            "boot_attempts": 1,
        }
        return Settings(**(defaults | fields))

    yield made
    for folder in folders:
        shutil.rmtree(folder)


async def test_boot_events_status_stop(make: Make) -> None:
    heard: list[Event] = []
    async with Machine.open(make(), environ=ENVIRON) as machine:
        machine.on(Event, heard.append)
        await machine.boot()
        assert machine.state is MachineState.READY
        report = machine.status()
        assert [process.name for process in report.processes] == [
            "health-server",
            "valkey",
            "simulation-gpu0",
            "redis-worker-simulation-0",
        ]
        assert all(check.ok for check in report.checks)
        assert [timing.state for timing in report.timings][:3] == [
            "starting",
            "installing",
            "custom_nodes",
        ]
        assert await machine.stop() == 0
    assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
    visited = [event.target.value for event in heard if isinstance(event, Changed)]
    assert visited == [
        "installing",
        "custom_nodes",
        "pm_generation",
        "launching",
        "services_starting",
        "workers_starting",
        "health_check",
        "ready",
        "stopping",
        "stopped",
    ]
    assert isinstance(heard[-1], MachineStopped)
    assert any(isinstance(event, MachineReady) for event in heard)


async def test_leaving_stops_a_machine_that_nobody_stopped(make: Make) -> None:
    async with Machine.open(make(), environ=ENVIRON) as machine:
        await machine.boot()
        pids = [p.pid for p in machine.status().processes if p.pid and not p.ours]
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_two_machines_in_one_process_share_nothing(make: Make) -> None:
    one, two = make(), make()
    async with Machine.open(one, environ=ENVIRON) as a, Machine.open(two, environ=ENVIRON) as b:
        await asyncio.gather(a.boot(), b.boot())
        assert a.status().health_url != b.status().health_url
        assert {p.pid for p in a.status().processes if not p.ours}.isdisjoint(
            {p.pid for p in b.status().processes if not p.ours}
        )
        await a.stop()
        assert b.state is MachineState.READY


async def test_the_stream_of_events_ends_with_the_machine(make: Make) -> None:
    async with Machine.open(make(), environ=ENVIRON) as machine:

        async def listen() -> list[str]:
            return [event.kind async for event in machine.events(Changed)]

        listening = asyncio.create_task(listen())
        await machine.boot()
        await machine.stop()
        assert (await listening)[-1] == "changed"


async def test_a_stop_during_the_boot_is_told_to_who_waits_for_it(make: Make) -> None:
    settings = make(simulation_ready_delay_ms=30_000)
    async with Machine.open(settings, environ=ENVIRON) as machine:

        def stop(event: Changed) -> None:
            if event.target is MachineState.SERVICES_STARTING:
                machine.request_stop("changed my mind")

        machine.on(Changed, stop)
        with pytest.raises(LifecycleError) as raised:
            await machine.boot()
        assert raised.value.code == "machine-stopped-early"
        assert await machine.wait() == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"service_mapping": Path("/nonexistent/mapping.json")}, "mapping-unreadable"),
        ({"workers": "comfyui:1"}, "no-queue"),
        ({"workers": "nonsense:1"}, "worker-unknown"),
        ({"workers": "simulation:1", "redis_url": "redis://127.0.0.1:1"}, "redis-unreachable"),
    ],
)
async def test_a_boot_that_cannot_succeed_raises_its_cause(
    make: Make, fields: dict[str, Any], code: str
) -> None:
    async with Machine.open(make(**fields), environ=ENVIRON) as machine:
        with pytest.raises(LifecycleError) as raised:
            await machine.boot()
        codes = {part.code for part in raised.value.parts()}
        assert code in codes, raised.value
        assert raised.value.remedies
        await machine.wait()


async def test_the_fleet_hears_how_the_machine_is(make: Make, own_valkey: ValkeyServer) -> None:
    """Hubs learn of a machine by its messages: phases in order, and ``machine_ready`` once."""
    settings = make(redis_url=own_valkey.url)
    client = connect(own_valkey.url, blocking=True)
    channel = f"machine:status:{settings.machine_id}"
    async with client.pubsub() as heard:
        await heard.subscribe(channel)
        async with Machine.open(settings, environ=ENVIRON) as machine:
            await machine.boot()
            await machine.stop()
        said = []
        async for message in heard.listen():
            if message["type"] == "message":
                said.append(json.loads(message["data"]))
                if said[-1]["update_type"] == "shutdown":
                    break
    await client.aclose()
    kinds = [message["update_type"] for message in said]
    assert kinds.count("machine_ready") == 1
    phases = [message["status"]["machine"]["phase"] for message in said]
    assert phases == sorted(phases, key=["starting", "ready", "shutdown"].index)
    ready = next(message for message in said if message["update_type"] == "machine_ready")
    assert set(ready["structure"]["capabilities"]) == {"simulation", "comfyui"} or (
        "simulation" in ready["structure"]["capabilities"]
    )


async def test_a_second_machine_of_the_same_id_is_refused(
    make: Make, own_valkey: ValkeyServer
) -> None:
    first = make(redis_url=own_valkey.url, machine_id="twin")
    second = make(redis_url=own_valkey.url, machine_id="twin")
    async with Machine.open(first, environ=ENVIRON) as one:
        await one.boot()
        async with Machine.open(second, environ=ENVIRON) as two:
            with pytest.raises(LifecycleError) as raised:
                await two.boot()
            assert raised.value.code == "machine-id-taken"
            await two.wait()
        assert one.state is MachineState.READY


async def test_a_service_that_keeps_dying_fails_the_machine(make: Make) -> None:
    """Ready is no promise for ever: the essential service's budget is spent, the machine fails."""
    settings = make(workers="tests.support.short_tempered:SERVICE:1", redis_mode=RedisMode.EMBEDDED)
    root = str(Path(__file__).parents[2])
    async with Machine.open(
        settings, environ={**ENVIRON, "PYTHONPATH": root, "FAKE_FOLDER": str(settings.workspace)}
    ) as machine:
        await machine.boot()
        errors: list[dict[str, Any]] = []

        def kill_again(event: ProcessChanged) -> None:
            if event.process.name == "short-tempered-0" and event.process.ready:
                os.kill(event.process.pid or 0, signal.SIGKILL)

        machine.on(ProcessChanged, kill_again)
        machine.on(MachineFailed, lambda event: errors.append(event.error))
        first = next(p for p in machine.status().processes if p.role.value == "service")
        assert first.name == "short-tempered-0"
        os.kill(first.pid or 0, signal.SIGKILL)
        assert await machine.wait() == 3
    assert [error["code"] for error in errors] == ["process-failed"]
    assert "short-tempered-0" in errors[0]["summary"]


async def test_a_job_from_python(make: Make) -> None:
    async with Machine.open(make(), environ=ENVIRON) as machine:
        await machine.boot()
        graph = {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
            },
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        graph["2"]["inputs"]["filename_prefix"] = "x"  # type: ignore[index]
        async with open_job_queue(machine.queue_url) as queue:
            job = await queue.submit(graph, service_required="simulation")
            async for event in queue.watch(job):
                last = event
            assert last.kind == "completed"
            (output,) = await queue.outputs(job)
            assert output.data.startswith(b"\x89PNG")


async def test_a_machine_takes_the_jobs_of_its_customers_alone(make: Make) -> None:
    settings = make(
        allowed_customers="acme, beta", denied_customers="beta", customer_isolation="strict"
    )
    strict = {"customer_isolation": "strict"}
    async with Machine.open(settings, environ=ENVIRON) as machine:
        await machine.boot()
        async with open_job_queue(machine.queue_url) as queue:
            for whose in ("beta", "other", ""):
                job = await queue.submit({}, service_required="simulation", customer_id=whose)
                (fit,) = (await queue.why(job)).fits
                assert fit.lacks == (f"takes no jobs of customer {whose or '(none named)'}",)
            size = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
            graph = {
                "1": {"class_type": "EmptyImage", "inputs": size},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            }
            job = await queue.submit(
                graph, service_required="simulation", customer_id="acme", requirements=strict
            )
            assert (await queue.result(job)).outputs


async def test_a_reload_starts_anew_only_what_other_settings_change(make: Make) -> None:
    settings = make(workers="simulation:2", mock_gpus=2)
    async with Machine.open(settings, environ=ENVIRON) as machine:
        with pytest.raises(LifecycleError, match="reload-refused"):
            await machine.reload(settings)
        await machine.boot()

        def pids() -> dict[str, int | None]:
            return {one.name: one.pid for one in machine.status().processes}

        before = pids()
        nothing = await machine.reload(settings)
        assert nothing == Reloaded(same=nothing.same)
        assert pids() == before

        port = settings.health_port + 1
        fewer = attrs.evolve(settings, workers="simulation:1", health_port=port)
        done = await machine.reload(fewer)
        assert done.later == ("MACHINE_HEALTH_PORT",)
        gone = {name for name in before if name.endswith(("gpu1", "simulation-1"))}
        assert set(done.removed) == gone
        kept = {name: pid for name, pid in before.items() if name not in gone}
        assert pids() == kept
        assert len(machine.status().workers) == 1

        slower = attrs.evolve(fewer, simulation_step_ms=51)
        done = await machine.reload(slower)
        assert "simulation-gpu0" in done.changed
        assert "valkey" in pids()
        assert pids()["valkey"] == before["valkey"]
        back = await machine.reload(settings)
        assert set(back.added) == gone
        async with asyncio.timeout(PATIENCE):
            while not all(one.ready for one in machine.status().processes):
                await anext(machine.events(ProcessChanged))
        assert machine.state is MachineState.READY


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_a_reload_that_is_seen_to_be_impossible_ends_nothing(
    make: Make, stranger: socket.socket
) -> None:
    settings = make()
    async with Machine.open(settings, environ=ENVIRON) as machine:
        await machine.boot()
        before = {one.name: one.pid for one in machine.status().processes}
        port = stranger.getsockname()[1]
        taken = attrs.evolve(settings, workers="simulation:2", simulation_base_port=port)
        with pytest.raises(LifecycleError, match="reload-failed") as caught:
            await machine.reload(taken)
        assert "port" in caught.value.summary
        assert {one.name: one.pid for one in machine.status().processes} == before
        assert len(machine.status().workers) == 1
        nothing = await machine.reload(settings)
        assert nothing == Reloaded(same=nothing.same)


async def test_a_reload_that_fails_midway_goes_back(make: Make) -> None:
    """Somebody takes the port of the new plan while what runs is being stopped for it."""
    settings, port = make(workers="simulation:2", mock_gpus=2), free_port()

    def take(event: ProcessChanged) -> None:
        one = event.process
        if one.name == "simulation-gpu0" and one.state is ProcessState.STOPPING and not strangers:
            strangers.append(others.enter_context(socket.create_server(("127.0.0.1", port))))

    strangers: list[socket.socket] = []
    async with Machine.open(settings, environ=ENVIRON) as machine:
        await machine.boot()
        await machine.stop_process("redis-worker-simulation-1")
        before = {one.name: one.pid for one in machine.status().processes}
        machine.on(ProcessChanged, take)
        fewer = attrs.evolve(settings, workers="simulation:1", simulation_base_port=port)
        with ExitStack() as others, pytest.raises(LifecycleError, match="reload-failed") as caught:
            await machine.reload(fewer)
        assert strangers
        assert str(port) in caught.value.summary
        async with asyncio.timeout(PATIENCE):
            while sum(one.ready for one in machine.status().processes) < len(before) - 1:
                await anext(machine.events(ProcessChanged))
        after = {one.name: one.pid for one in machine.status().processes}
        assert set(after) == set(before)
        assert after["redis-worker-simulation-1"] is None
        assert after["simulation-gpu0"] != before["simulation-gpu0"]
        assert after["valkey"] == before["valkey"]
        assert len(machine.status().workers) == 2
        assert machine.state is MachineState.READY


async def test_processes_are_steered_from_python(make: Make) -> None:
    async with Machine.open(make(), environ=ENVIRON) as machine:
        await machine.boot()

        def service() -> ProcessStatus:
            return next(one for one in machine.status().processes if one.name == "simulation-gpu0")

        first = service().pid
        await machine.stop_process("simulation-gpu0")
        assert service().state is ProcessState.STOPPED
        with pytest.raises(LifecycleError, match="process-not-running"):
            machine.signal_process("simulation-gpu0", signal.SIGTERM)
        await machine.start_process("simulation-gpu0")
        assert service().pid not in (None, first)
        second = service().pid
        machine.signal_process("simulation-gpu0", signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while service().pid in (None, second):
                await anext(machine.events(ProcessChanged))
        await machine.restart_process("simulation-gpu0")
        assert service().restarts == 0

"""Told to stop in every state, killed in every state: nothing is left, nothing is there twice."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.system.redis import connect
from tests.support.outside import Outside
from tests.support.redis_server import ValkeyServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness is a subreaper")

STATES = [
    "starting",
    "installing",
    "custom_nodes",
    "pm_generation",
    "launching",
    "services_starting",
    "workers_starting",
    "health_check",
    "ready",
]
FULL_HOUSE = ["orchestrator", "service", "worker"]


@pytest_asyncio.fixture
async def redis(hub: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(hub.url)
    await client.flushall()
    yield client
    await client.aclose()


async def traces(redis: Redis) -> list[str]:
    """Keys of machines and workers; not the story of a life, which is there for a day after it."""
    found = [
        key
        for pattern in ("machine:*", "worker:*", "workers:*")
        async for key in redis.scan_iter(match=pattern)
    ]
    stories = [key for key in found if key.startswith("machine:") and key.endswith(":events")]
    assert all([0 < await redis.ttl(key) <= 24 * 3600 for key in stories])
    return sorted({*found} - {*stories} - {key for key in found if "worker:completion" in key})


@pytest.mark.parametrize("state", STATES)
async def test_a_stop_in_any_state_leaves_nothing(
    state: str, outside: Callable[..., Outside], hub: ValkeyServer, redis: Redis
) -> None:
    """A process, a port or a key that outlives the machine would be found here."""
    client = JobQueue(redis)
    waiting = await client.submit({"x": 1}, service_required="somebody-elses")
    machine = outside(HUB_REDIS_URL=hub.url).start()
    machine.until_in(state)
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0, machine.said()
    machine.reap()
    assert machine.running() == []
    assert machine.port_is_free()
    assert await traces(redis) == []
    assert (await client.get(waiting)).status == "pending"
    assert machine.events[-1]["kind"] == "machine_stopped"


@pytest.mark.parametrize("state", STATES)
async def test_killed_in_any_state_the_next_start_finds_a_clean_or_living_house(
    state: str, outside: Callable[..., Outside], hub: ValkeyServer, redis: Redis
) -> None:
    """After SIGKILL: what is in Redis expires, and no process is there twice afterwards."""
    machine = outside(HUB_REDIS_URL=hub.url).start()
    machine.until_in(state)
    machine.signal(signal.SIGKILL)
    assert machine.wait() == -signal.SIGKILL
    for key in await traces(redis):
        if key != "workers:active":
            assert await redis.ttl(key) > 0, f"{key} would stay for ever"
    before = {process.pid for process in machine.running()}
    machine.start()
    machine.until("machine_ready")
    assert machine.roles() == FULL_HOUSE
    if state == "ready":
        assert before <= {process.pid for process in machine.running()}, "living ones are adopted"
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0, machine.said()
    machine.reap()
    assert machine.running() == []
    assert await traces(redis) == []


async def test_a_killed_machine_with_its_own_queue_keeps_it(
    outside: Callable[..., Outside],
) -> None:
    """The embedded queue outlives its orchestrator, and the next one finds it with its jobs."""
    machine = outside().start()
    machine.until("machine_ready")
    first = {process.pid for process in machine.running()}
    machine.signal(signal.SIGKILL)
    machine.wait()
    assert machine.roles() == ["service", "valkey", "worker"]
    machine.start()
    machine.until("machine_ready")
    assert len(first & {process.pid for process in machine.running()}) == 3
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0, machine.said()
    machine.reap()
    assert machine.running() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_forces(
    number: signal.Signals, code: int, outside: Callable[..., Outside]
) -> None:
    """Somebody who presses Ctrl+C twice is not kept waiting."""
    machine = outside(MACHINE_STOP_TIMEOUT="30").start()
    machine.until("machine_ready")
    # A stopped (frozen) worker can't end by itself, so that the stop is still under way.
    worker = next(p for p in machine.running() if "redis-worker" in " ".join(p.cmdline()))
    worker.suspend()
    machine.signal(number)
    machine.until_in("stopping")
    machine.signal(number)
    assert machine.wait() == code
    machine.reap()
    assert machine.running() == []


async def test_a_stop_without_redis_still_leaves_nothing(outside: Callable[..., Outside]) -> None:
    """The fleet's Redis is gone: the machine stops all the same, within its budget."""
    server = ValkeyServer()
    server.start()
    try:
        machine = outside(HUB_REDIS_URL=server.url).start()
        machine.until("machine_ready")
        server.stop(signal.SIGKILL)
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0, machine.said()
        machine.reap()
        assert machine.running() == []
        assert not (machine.folder / "r" / "machine.json").exists()
    finally:
        server.close()


async def test_a_redis_that_comes_back_finds_the_machine_again(
    outside: Callable[..., Outside],
) -> None:
    """A restart of Redis is no reason to fail: machine and worker register again, jobs are done."""
    server = ValkeyServer()
    server.start()
    try:
        machine = outside(HUB_REDIS_URL=server.url).start()
        machine.until("machine_ready")
        server.stop()
        server.start()
        client = connect(server.url)
        queue = JobQueue(client)
        graph = {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
            },
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": "x"},
            },
        }
        job = await queue.submit(graph, service_required="simulation")
        async for event in queue.watch(job):
            last = event
        assert last.kind == "completed"
        await client.aclose()
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0, machine.said()
    finally:
        server.close()

"""The machine in Redis: one living machine per id, and nothing left of a dead one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, cast

import attrs
import pytest
from redis.asyncio import Redis

from machine_lifecycle.assembly.fleet import Fleet
from machine_lifecycle.assembly.queue import Queue
from machine_lifecycle.fleet.errors import MachineIdTaken
from machine_lifecycle.fleet.registry import Registry
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan, WorkerPlan
from machine_lifecycle.model.status import StatusReport, WorkerStatus
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_errors import RedisUnreachable
from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE

WORKER = WorkerPlan(
    id="m1-worker-fake-0", process="redis-worker-fake-0", type="fake", index=0, instances=("fake",),
    capabilities={"simulation": "fake"}, connectors={"fake": "x:Y"},
)  # fmt: skip
PLAN = BootPlan(machine_id="m1", hardware=Hardware(), workers=(WORKER,))


def report() -> StatusReport:
    return StatusReport(
        machine_id="m1", version="1",
        state="ready", phase="ready", since=0.0, uptime=1.5, attempt=1,
        pid=os.getpid(), workers=(WorkerStatus(id=WORKER.id, process=WORKER.process, type="fake",
        status="idle", connected=True),), health_url="http://127.0.0.1:9090",
    )  # fmt: skip


def registry(redis: Redis, url: str, **more: Any) -> Registry:
    return Registry(redis, "m1", report, url=url, **more)


async def heard_message(heard: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        async for message in heard.listen():
            return json.loads(message["data"])
    raise AssertionError("the subscription ended")


async def test_register_publish_verify_deregister(valkey: Any, redis: Redis) -> None:
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe("machine:status:m1")
    found = registry(redis, valkey.url)
    await found.register(PLAN)
    first = await heard_message(heard)
    assert first["update_type"] == "event_driven"
    await found.publish("machine_ready")
    message = await heard_message(heard)
    assert message["update_type"] == "machine_ready"
    assert message["status"]["machine"]["phase"] == "ready"
    assert message["structure"]["workers"][WORKER.id]["pm2_name"] == "redis-worker-fake-0"
    assert message["status"]["services"][f"{WORKER.id}.fake"]["health"] == "healthy"
    assert message["health_url"] == "http://127.0.0.1:9090/health"
    info = await redis.hgetall("machine:m1:info")
    assert (info["status"], info["health_url"]) == ("ready", message["health_url"])
    assert 0 < await redis.ttl("machine:m1:info") <= 120
    assert 0 < await redis.ttl("machine:m1:owner") <= 30
    checks = {check.name: check.ok for check in await found.verify(PLAN)}
    assert checks["machine-registered"]
    assert not checks[f"worker-registered:{WORKER.id}"]
    await redis.hset(f"worker:{WORKER.id}", "worker_id", WORKER.id)
    await redis.set(f"worker:{WORKER.id}:heartbeat", "now")
    await redis.sadd("workers:active", WORKER.id)
    assert all(check.ok for check in await found.verify(PLAN))
    await redis.set("job:x", "stays")
    await found.deregister()
    assert (await heard_message(heard))["status"]["machine"]["phase"] == "shutdown"
    assert await redis.keys("*") == ["job:x"]
    await heard.aclose()


async def test_a_second_living_machine_is_refused(valkey: Any, redis: Redis) -> None:
    first, second = registry(redis, valkey.url), registry(redis, valkey.url)
    await first.register(PLAN)
    await first.register(PLAN)
    with pytest.raises(MachineIdTaken) as caught:
        await second.register(PLAN)
    assert str(os.getpid()) in caught.value.summary
    await second.deregister()
    assert await redis.exists("machine:m1:owner"), "the one who was refused removes nothing"
    await first.deregister()
    await second.register(PLAN)


async def test_our_own_killed_run_is_taken_over_at_once(valkey: Any, redis: Redis) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
    await child.wait()
    first = registry(redis, valkey.url)
    await first.register(PLAN)
    owner = json.loads(str(await redis.get("machine:m1:owner")))
    await redis.set("machine:m1:owner", json.dumps(owner | {"pid": child.pid, "token": "old"}))
    await registry(redis, valkey.url).register(PLAN)
    elsewhere = owner | {"pid": child.pid, "token": "old", "host": "another"}
    await redis.set("machine:m1:owner", json.dumps(elsewhere))
    with pytest.raises(MachineIdTaken):
        await registry(redis, valkey.url).register(PLAN)


@pytest.mark.parametrize("claim", ["", "v2:a1b2", '{"token": "a"}', "[" * 100_000])
async def test_a_claim_that_another_version_wrote_holds(
    valkey: Any, redis: Redis, claim: str
) -> None:
    await redis.set("machine:m1:owner", claim)
    if not claim:  # it names nobody
        await registry(redis, valkey.url).register(PLAN)
        return
    with pytest.raises(MachineIdTaken, match="of another version") as caught:
        await registry(redis, valkey.url).register(PLAN)
    assert not any("kill" in str(one.command) for one in caught.value.remedies)
    assert await redis.get("machine:m1:owner") == claim


async def test_it_is_registered_again_after_redis_was_away_and_empty(own_valkey: Any) -> None:
    redis = connect(own_valkey.url)
    back = asyncio.Event()
    away = asyncio.Event()
    found = registry(
        redis, own_valkey.url, interval=0.05,
        on_answer=lambda trouble: (away if trouble else back).set(),
    )  # fmt: skip
    await found.register(PLAN)
    task = asyncio.create_task(found.run())
    own_valkey.stop()
    async with asyncio.timeout(PATIENCE):
        await away.wait()
    with pytest.raises(RedisUnreachable):
        await registry(redis, own_valkey.url).register(PLAN)
    await found.publish("event_driven")
    own_valkey.start()
    await redis.flushall()
    for _ in range(2):  # the first may have claimed the id before all was flushed
        back.clear()
        async with asyncio.timeout(PATIENCE):
            await back.wait()
    assert await redis.exists("machine:m1:info", "machine:m1:owner") == 2
    await end_tasks(task)
    await redis.aclose()


async def test_what_jobs_change_is_told_as_one(redis: Redis, valkey: Any) -> None:
    @attrs.frozen
    class Opened:
        client: Redis
        url: str

    fleet = Fleet(
        queue=cast(Queue, Opened(redis, valkey.url)), machine_id="m1", report=report,
        interval=10, on_lost=lambda _: None, on_drained=lambda _: None,
    )  # fmt: skip
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe("machine:status:m1")
    await fleet.register(PLAN)
    told: list[str] = []

    async def until(word: str, times: int) -> None:
        while told.count(word) < times:
            told.append((await heard_message(heard))["update_type"])

    await until("event_driven", 1)
    for _ in range(50):
        await fleet.moved(MachineState.READY, MachineState.PROCESSING)
        await fleet.moved(MachineState.PROCESSING, MachineState.READY)
    await until("event_driven", 2)
    await fleet.deregister()
    await fleet.moved(MachineState.READY, MachineState.PROCESSING)
    await until("shutdown", 1)
    assert told == ["event_driven", "event_driven", "shutdown"]
    await heard.aclose()

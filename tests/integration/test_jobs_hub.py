"""What a hub that only listens, by patterns, hears of a job that is pushed to a worker."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from machine_lifecycle.system import redis_keys as keys
from tests.integration.test_jobs_pushes import has_room, submit
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer
from tests.support.workers import Workers, registered

PATTERNS = (
    *("job_*", "*_job", "update_*", "worker_status*", "machine:*:worker:*"),
    "__keyspace@0__:job:*",
)
"""Of the hub's channels, and of what the server tells of keys."""
JOB: dict[str, Any] = {
    "service_required": "simulation",
    "workflow_id": "wf",
    "current_step": 1,
    "total_steps": 2,
}
Message = tuple[str, dict[str, Any]]
OF_WORKER = "machine:m1:worker:w-1"


async def put(redis: Redis, job_id: str) -> None:
    """As a hub does, which knows nothing of an index."""
    now = time.time_ns() // 1_000_000
    job: Any = {**JOB, "id": job_id, "payload": json.dumps({"wait": job_id}), "status": "pending"}
    await redis.hset(keys.job(job_id), mapping=job)
    await redis.zadd(keys.PENDING, {job_id: now})
    await redis.publish(keys.SUBMITTED, json.dumps({**job, "job_id": job_id, "timestamp": now}))


async def heard_to_its_end(hub: Any, job_id: str, folder: Path) -> list[Message]:
    """All messages, until the worker says that it is idle again."""
    found: list[Message] = []
    async with asyncio.timeout(PATIENCE):
        async for message in hub.listen():
            channel, told = message["channel"], message["data"]
            found.append((channel, {"key": told} if channel.startswith("__") else json.loads(told)))
            if found[-1][1].get("status") == "in_progress":
                (folder / job_id).touch()  # which lets it end
            if channel == OF_WORKER and found[-1][1]["data"].get("status") == "idle":
                return found
    raise AssertionError("the subscription ended")


def of_job(heard: list[Message], job_id: str) -> list[tuple[str, str, list[str]]]:
    """What was told of the job after it was submitted: channel, event or status, and the fields."""
    return [
        (channel, str(told.get("event_type", told.get("status", ""))), sorted({**told, **more}))
        for channel, told in heard
        for more in [told.get("data", {})]
        if job_id in {told.get("job_id"), more.get("job_id")} and channel != keys.SUBMITTED
    ]


def of_worker(heard: list[Message]) -> list[tuple[str, str]]:
    """What the worker told of its own status."""
    return [
        (channel, told.get("new_status") or told["data"]["status"])
        for channel, told in heard
        if channel == keys.WORKER_STATUS or told.get("event_type") == "worker_status_changed"
    ]


async def test_it_hears_the_same_of_a_pushed_job_as_of_one_that_it_put_there(
    own_valkey: ValkeyServer, admin: Redis, workers: Workers
) -> None:
    await admin.config_set("notify-keyspace-events", "Kh")
    await workers.start(own_valkey.url, WORKER_ID="w-1", WORKER_POLL_INTERVAL_MS="200")
    await registered(admin)
    await has_room(admin)
    async with admin.pubsub(ignore_subscribe_messages=True) as hub:
        await hub.psubscribe(*PATTERNS)
        assert await submit(admin, "pushed", payload={"wait": "pushed"}, **JOB) == "assigned"
        pushed = await heard_to_its_end(hub, "pushed", workers.folder)
        await put(admin, "claimed")
        claimed = await heard_to_its_end(hub, "claimed", workers.folder)
    told = of_job(pushed, "pushed")
    assert told == of_job(claimed, "claimed")
    assert [(channel, event) for channel, event, _ in told] == [
        (keys.CLAIMED, "claimed"),
        (keys.PROGRESS_CHANNEL, ""),
        (OF_WORKER, "job_started"),
        (keys.PROGRESS_CHANNEL, "in_progress"),
        (keys.COMPLETE_CHANNEL, "completed"),
        (OF_WORKER, "job_completed"),
    ]
    busy_and_idle = [
        (channel, status)
        for status in ("busy", "idle")
        for channel in (keys.WORKER_STATUS, OF_WORKER)
    ]
    assert of_worker(pushed) == of_worker(claimed) == busy_and_idle
    for heard, job_id in ((pushed, "pushed"), (claimed, "claimed")):
        channels = [channel for channel, _ in heard]
        written = channels.index(f"__keyspace@0__:{keys.job(job_id)}")
        assert written < channels.index(keys.CLAIMED), "who looks at the key sees the job"
        assert keys.SUBMITTED in channels[: channels.index(keys.CLAIMED)]

"""A server that fails over, forgets, is full or hangs up, while jobs are pushed to workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_line import Line
from tests.integration.test_jobs_pushes import has_room, submit
from tests.support.front import Front
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer
from tests.support.workers import Workers, end_of, through


async def start(workers: Workers, url: str, *, number: int = 1, **env: str) -> None:
    """Workers that look after their queue more often than they have to."""
    for index in range(number):
        await workers.start(
            url,
            index=index,
            WORKER_ID=f"w-{index + 1}",
            WORKER_POLL_INTERVAL_MS="200",
            WORKER_HEARTBEAT_INTERVAL_MS="1000",
            **env,
        )


class Forgetful(Line):
    """A line to a server that somebody empties right before the call, so often."""

    times = 0

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        if words[0] == "FCALL" and self.times:
            self.times -= 1
            await super().execute_command("FUNCTION", "FLUSH")
        return await super().execute_command(*words, **options)


async def test_functions_are_loaded_anew_however_often_they_are_flushed(redis: Redis) -> None:
    async with contextlib.aclosing(Forgetful(redis)) as line:
        functions = QueueFunctions(line)
        await functions.call("ml1_recover", "w-1", "")
        line.times = 2
        assert await functions.call("ml1_recover", "w-1", "") == []
        line.times = 3
        with pytest.raises(ResponseError, match="Function not found"):
            await functions.call("ml1_recover", "w-1", "")
        assert await functions.call("ml1_recover", "w-1", "") == []


@pytest_asyncio.fixture
async def successor(own_valkey: ValkeyServer) -> AsyncIterator[ValkeyServer]:
    """Another server, with the same password."""
    found = ValkeyServer()
    found.start()
    password = own_valkey.url.split("@")[0].split(":")[-1]
    async with contextlib.aclosing(connect(found.url)) as redis:
        await redis.config_set("requirepass", password)
    found.url = f"unix://:{password}@{found.url.split('@')[1]}"
    yield found
    found.close()


async def test_a_worker_hears_of_jobs_where_its_address_leads_to_another_server(
    own_valkey: ValkeyServer, admin: Redis, front: Front, workers: Workers, successor: ValkeyServer
) -> None:
    """As after a failover behind a proxy, where the primary of before lives on as a replica."""
    await start(workers, through(front, own_valkey))
    await has_room(admin)
    assert await submit(admin, "before") == "assigned"
    await end_of(JobQueue(admin), "before")
    await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ReadOnlyError):
        await submit(admin, "refused")
    front.lead_to(successor.paths.runtime / "valkey.sock")
    async with contextlib.aclosing(connect(successor.url)) as redis:
        await listens(redis)
        await has_room(redis)
        assert await submit(redis, "after") == "assigned"
        assert (await end_of(JobQueue(redis), "after")).kind == "completed"


async def listens(redis: Redis, worker: str = "w-1") -> None:
    """Return when a worker listens to what is pushed to it."""
    async with asyncio.timeout(PATIENCE):
        while not (await redis.pubsub_numsub(keys.wake(worker)))[0][1]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)

"""Events on their way into Redis: those of a moment go together, and none is lost at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from machine_lifecycle.lifecycle.events import JobStarted
from machine_lifecycle.observers.stream import EventStream
from machine_lifecycle.system.redis import connect
from tests.support.redis_server import ValkeyServer


@pytest.fixture
async def server() -> AsyncIterator[tuple[ValkeyServer, Any]]:
    found = ValkeyServer()
    found.start()
    redis = connect(found.url)
    yield found, redis
    await redis.aclose()
    found.close()


def _event(number: int) -> JobStarted:
    return JobStarted(seq=number, job_id=f"j{number}", worker_id="w")


async def _numbers(redis: Any) -> list[int]:
    entries = await redis.xrange("machine:m1:events")
    return [json.loads(fields["event"])["seq"] for _, fields in entries]


async def test_events_of_a_moment_go_in_one_call(server: tuple[ValkeyServer, Any]) -> None:
    valkey, redis = server
    async with EventStream("m1", lambda: valkey.url, 1000) as stream:
        for number in range(300):
            await stream(_event(number))
    assert await _numbers(redis) == list(range(300)), "all of them, as it was left at once"
    calls = (await redis.info("commandstats"))["cmdstat_expire"]["calls"]
    assert calls < 10


async def test_events_wait_while_the_queue_is_away(server: tuple[ValkeyServer, Any]) -> None:
    valkey, redis = server
    where = [""]
    async with EventStream("m1", lambda: where[0], 3) as stream:
        for number in range(5):
            await stream(_event(number))
        where[0] = valkey.url
        await stream(_event(5))
    assert await _numbers(redis) == [3, 4, 5], "the newest that there is room for"

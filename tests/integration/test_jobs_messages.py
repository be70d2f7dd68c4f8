"""Following jobs over one subscription: several at once, and when Redis goes away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.messages import Messages
from machine_lifecycle.jobs.records import JobEvent
from machine_lifecycle.model.jobs import Preview
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_errors import RedisUnreachable
from tests.integration.test_jobs_queue import call, claim
from tests.support.front import Front
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer
from tests.support.workers import through


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


async def _until(said: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await said():  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)  # sleep: how often


async def test_all_who_follow_share_one_connection(own_server: ValkeyServer) -> None:
    redis = connect(own_server.url)
    began: list[str] = []
    ended: list[str] = []

    async def follow(client: JobQueue, job_id: str) -> None:
        async for event in client.watch(job_id):
            if event.kind == "submitted":
                began.append(job_id)
        ended.append(f"{job_id} {event.kind}")

    async def listeners() -> int:
        found: Any = await redis.client_list(_type="pubsub")
        return len(found)

    async with open_job_queue(own_server.url) as client:
        ids = [await client.submit({}, service_required="x") for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for job_id in (*ids, ids[0]):
                group.create_task(follow(client, job_id))
            await _until(lambda: asyncio.sleep(0, len(began) == 4))
            assert await listeners() == 1
            for job_id in ids:
                assert await client.cancel(job_id) == "cancelled"
        assert sorted(ended) == sorted(f"{job_id} cancelled" for job_id in (*ids, ids[0]))
        assert await listeners() == 1, "it stays for the next who follows"

    async def nobody() -> bool:
        return await listeners() == 0

    await _until(nobody)
    await redis.aclose()


async def test_what_was_told_while_redis_was_away_is_found(own_server: ValkeyServer) -> None:
    began = asyncio.Event()
    async with open_job_queue(own_server.url) as client:
        job_id = await client.submit({}, service_required="x")

        async def follow() -> list[str]:
            kinds = []
            async for event in client.watch(job_id):
                kinds.append(event.kind)
                began.set()
            return kinds

        following = asyncio.create_task(follow())
        await began.wait()
        redis = connect(own_server.url)
        await redis.hset(keys.job(job_id), "status", "cancelled")  # and nobody tells it
        await redis.client_kill_filter(_type="pubsub")
        async with asyncio.timeout(PATIENCE):
            assert await following == ["submitted", "cancelled"]
        await redis.aclose()


async def test_a_redis_that_stays_away_ends_what_follows(own_server: ValkeyServer) -> None:
    async def follow() -> None:
        async with open_job_queue(own_server.url) as client:
            job_id = await client.submit({}, service_required="x")
            async for _ in client.watch(job_id):
                own_server.stop()

    with pytest.raises(RedisUnreachable):
        await asyncio.wait_for(follow(), PATIENCE)


async def test_a_redis_that_goes_away_while_nobody_follows_is_told_to_who_follows_next(
    own_server: ValkeyServer,
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: told.append(fault))

    async def is_listening() -> bool:
        return any(task.get_name() == "messages of jobs" for task in asyncio.all_tasks())

    async def is_over() -> bool:
        return not await is_listening()

    async with open_job_queue(own_server.url) as client:
        job_id = await client.submit({}, service_required="x")
        await client.cancel(job_id)
        assert [event.kind async for event in client.watch(job_id)] == ["cancelled"]
        assert await is_listening()
        own_server.stop()
        await _until(is_over)
        with pytest.raises(RedisConnectionError):
            await anext(client.watch(job_id))
        own_server.start()
        assert [event.kind async for event in client.watch(job_id)] == ["cancelled"]
    gc.collect()
    assert told == []


async def test_what_is_told_at_another_server_is_heard_from_the_second_job_on(
    own_server: ValkeyServer,
) -> None:
    """As after a failover behind a proxy, where the primary of before lives on as a replica."""
    front, old = Front(own_server.paths.runtime / "valkey.sock"), connect(own_server.url)
    successor = ValkeyServer(password_of=own_server)
    successor.start()
    try:
        async with contextlib.aclosing(connect(successor.url)) as redis:

            async def is_heard() -> bool:
                return bool((await redis.pubsub_numsub(keys.CANCEL))[0][1])

            async with open_job_queue(through(front, own_server)) as client:
                job_id = await client.submit({}, service_required="x")
                await client.cancel(job_id)
                assert [event.kind async for event in client.watch(job_id)] == ["cancelled"]
                await old.execute_command("REPLICAOF", "127.0.0.1", "1")
                front.lead_to(successor.paths.runtime / "valkey.sock")
                with pytest.raises(ReadOnlyError):
                    await client.submit({}, service_required="x")
                job_id = await client.submit({}, service_required="x")
                kinds = []
                async for event in client.watch(job_id):
                    kinds.append(event.kind)
                    if event.kind == "submitted":
                        await client.cancel(job_id)
                assert kinds == ["submitted", "cancelled"]
                await _until(is_heard)
    finally:
        await old.aclose()
        front.close()
        successor.close()


async def test_pictures_go_on_after_a_break(own_server: ValkeyServer) -> None:
    redis = connect(own_server.url)
    channel = keys.preview("j1")
    picture = json.dumps({"data": "AAAA", "mime_type": "image/png"})
    async with Messages(redis) as messages, messages.of("j1", previews=True) as heard:
        for _ in range(2):

            async def is_shown() -> bool:
                return bool(await redis.publish(channel, picture))

            await _until(is_shown)
            while (told := await heard.next(5)) is None or told.preview is None:
                pass
            assert told.preview == Preview(mime="image/png", data=b"\0\0\0")
            await redis.client_kill_filter(_type="pubsub")
    await redis.aclose()


async def _heard(listener: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            message = await listener.get_message(ignore_subscribe_messages=True, timeout=PATIENCE)
            if message is not None:
                return json.loads(message["data"])  # type: ignore[no-any-return]


async def test_what_is_large_is_not_told_to_all_who_listen(own_server: ValkeyServer) -> None:
    """A server ends the connections of those who are told more than 32 MB at once."""
    large = "x" * 40 * 2**20
    redis = connect(own_server.url)
    async with open_job_queue(own_server.url) as client, redis.pubsub() as listener:
        await listener.subscribe(keys.COMPLETE_CHANNEL, keys.SUBMITTED)
        before = {entry["id"] for entry in await redis.client_list(_type="pubsub")}
        small = await client.submit({"is": "small"}, service_required="x")
        assert (await _heard(listener))["payload"] == {"is": "small"}
        job_id = await client.submit({"is": large}, service_required="simulation")
        told = await _heard(listener)
        assert (told["job_id"], "payload" in told) == (job_id, False)
        assert (await client.get(job_id)).payload == {"is": large}
        waiting = asyncio.create_task(client.result(job_id))
        _, _, fence, _ = await claim(redis)
        result = json.dumps({"output_files": [], "data": {"is": large}})
        words = (job_id, fence, result, "{}", "worker:completion:x", 5, "simulation")
        assert (await call(redis, "ml1_turn", "w1", "m1", "", "0", 20000, 0, *words))[0] == ["ok"]
        told = await _heard(listener)
        assert (told["job_id"], told["status"], "result" in told) == (job_id, "completed", False)
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).data == {"is": large}
        await client.cancel(small)
        assert before <= {entry["id"] for entry in await redis.client_list(_type="pubsub")}
    await redis.aclose()


async def test_a_follower_who_does_not_come_costs_a_bound(own_server: ValkeyServer) -> None:
    redis = connect(own_server.url)
    events: list[JobEvent] = []
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="x")
    watching = client.watch(job_id)
    events.append(await anext(watching))
    for number in range(500):
        message = {"job_id": job_id, "progress": number / 10}
        await redis.publish(keys.PROGRESS_CHANNEL, json.dumps(message))
    await client.cancel(job_id)
    events.extend([event async for event in watching])
    assert len(events) <= 202
    assert events[-1].kind == "cancelled"
    await redis.aclose()

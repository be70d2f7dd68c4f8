"""A server that fails over, forgets, is full or hangs up, while jobs are pushed to workers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.errors import JobNotFound
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_errors import RedisRefuses
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
            WORKER_HEARTBEAT_INTERVAL_MS="3000",
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


@pytest.fixture
def successor(own_valkey: ValkeyServer) -> Iterator[ValkeyServer]:
    """Another server, with the same password."""
    found = ValkeyServer(password_of=own_valkey)
    found.start()
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
        await may_be_pushed_to(redis)
        assert await submit(redis, "after") == "assigned"
        assert (await end_of(JobQueue(redis), "after")).kind == "completed"


async def may_be_pushed_to(redis: Redis, *names: str) -> None:
    """Return when the queue knows that these workers wait, and listen."""

    async def waits(name: str) -> bool:
        known = await redis.hexists(keys.worker(name), "worker_id")
        idle = [await redis.zscore(key, name) for key in await redis.keys("jobs:idle:*")]
        return known and any(idle) and bool((await redis.pubsub_numsub(keys.wake(name)))[0][1])

    async with asyncio.timeout(PATIENCE):
        for name in names or ("w-1",):
            while not await waits(name):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)


async def ends(client: JobQueue, *ids: str) -> set[str]:
    """How these end."""
    return {(await end_of(client, job_id)).kind for job_id in ids}


async def is_pushed_to_each(redis: Redis, workers: Workers, kind: str) -> None:
    """All workers are known, wait, are given a job that comes, and do each once."""
    names = [f"w-{index + 1}" for index in range(len(workers.running))]
    await may_be_pushed_to(redis, *names)
    assert await redis.smembers(keys.ACTIVE_WORKERS) == set(names)
    ids = [f"{kind}-{name}" for name in names]
    for job_id in ids:
        assert await submit(redis, job_id, payload={"wait": kind}) == "assigned"
    assert {await redis.hget(keys.job(job_id), "worker_id") for job_id in ids} == set(names)
    (workers.folder / kind).touch()
    assert await ends(JobQueue(redis), *ids) == {"completed"}
    assert {worker.returncode for worker in workers.running} == {None}
    for job_id in ids:
        assert workers.journal().count(f"run {job_id} 1") == 1


async def nothing_is_left(redis: Redis) -> None:
    """No job that ended is in anybody's hands, or in the way."""
    for key in (keys.PENDING, keys.LEASES, keys.DELAYED, "jobs:index:size"):
        assert not await redis.exists(key), key
    assert await redis.keys("jobs:active:*") == []


async def test_a_server_that_was_emptied_has_its_workers_and_jobs_again(
    own_valkey: ValkeyServer, admin: Redis, workers: Workers
) -> None:
    async def empty() -> None:
        await admin.flushall()
        await admin.execute_command("FUNCTION", "FLUSH")

    await start(workers, own_valkey.url, number=2)
    await is_pushed_to_each(admin, workers, "before")
    await empty()
    await is_pushed_to_each(admin, workers, "idle")

    assert await submit(admin, "running", payload={"wait": "for ever"}) == "assigned"
    asking = asyncio.create_task(JobQueue(admin).result("running"))
    await end_of(JobQueue(admin), await JobQueue(admin).submit({}, service_required="simulation"))
    await empty()
    await is_pushed_to_each(admin, workers, "after")
    assert "cancelled running" in workers.journal()

    async def submit_all() -> None:
        for number in range(300):
            await JobQueue(admin).submit({}, service_required="simulation", job_id=f"job-{number}")

    submitting = asyncio.create_task(submit_all())
    for _ in range(5):
        await asyncio.sleep(0.05)  # sleep: some are pushed meanwhile
        await empty()
    await submitting
    left = [key for key in map(str, await admin.keys("job:job-*")) if key.count(":") == 1]
    assert await ends(JobQueue(admin), *(key.removeprefix("job:") for key in left)) <= {"completed"}
    await is_pushed_to_each(admin, workers, "at last")
    with pytest.raises(JobNotFound):
        await asyncio.wait_for(asking, PATIENCE)
    runs = Counter(line for line in workers.journal() if line.startswith("run "))
    assert set(runs.values()) == {1}
    await nothing_is_left(admin)


async def test_a_full_server_takes_a_pushed_job_whole_or_not_at_all(
    own_valkey: ValkeyServer, admin: Redis, workers: Workers
) -> None:
    await start(workers, own_valkey.url, WORKER_MAX_CONCURRENT_JOBS="200")
    await has_room(admin)
    used = (await admin.info("memory"))["used_memory"]
    await admin.config_set("maxmemory", used + 2_000_000)
    payload = {"wait": "go", "x": "y" * 100_000}
    tried: list[str] = []

    async def fill() -> None:
        async with open_job_queue(own_valkey.url) as client:
            while True:
                tried.append(f"job-{len(tried)}")
                await client.submit(payload, service_required="simulation", job_id=tried[-1])

    with pytest.raises(RedisRefuses, match="takes nothing more, its memory is full"):
        await fill()
    *held, refused = tried
    assert held
    assert set(await admin.hkeys(keys.active("w-1"))) == set(held)
    assert set(await admin.zrange(keys.LEASES, 0, -1)) == set(held)
    for job_id in held:
        record = await JobQueue(admin).get(job_id)
        assert (record.worker_id, record.payload["wait"]) == ("w-1", "go")
    assert await admin.keys(f"*{refused}*") == []
    assert await admin.zcard(keys.PENDING) == 0
    await admin.config_set("maxmemory", 0)
    assert await submit(admin, refused, payload=payload) == "assigned"
    (workers.folder / "go").touch()
    assert await ends(JobQueue(admin), *tried) == {"completed"}
    runs = [line for line in workers.journal() if line.startswith("run ")]
    assert sorted(runs) == sorted(f"run {job_id} 1" for job_id in tried)
    await nothing_is_left(admin)


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_connections_that_break_all_the_time_cost_no_run(
    own_valkey: ValkeyServer, admin: Redis, workers: Workers, kind: str
) -> None:
    await start(workers, own_valkey.url, number=2)
    await is_pushed_to_each(admin, workers, "before")
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        ids = [f"job-{number}" for number in range(60)]
        for job_id in ids:
            await JobQueue(redis, line).submit({}, service_required="simulation", job_id=job_id)
            await admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            if kind == "pubsub":
                await asyncio.sleep(0.01)  # sleep: the worker comes back now and then
    for job_id in ids:
        end = await end_of(JobQueue(admin), job_id)
        assert end.job
        assert (end.kind, end.job.fence, end.job.history) == ("completed", 1, ())
    await is_pushed_to_each(admin, workers, "after")
    for job_id in ids:
        assert workers.journal().count(f"run {job_id} 1") == 1
    await nothing_is_left(admin)


@pytest.mark.parametrize("keeps", [True, False], ids=["with a file", "without one"])
async def test_a_server_that_comes_back_has_its_workers_again(
    own_valkey: ValkeyServer, admin: Redis, workers: Workers, *, keeps: bool
) -> None:
    await start(workers, own_valkey.url, number=2)
    await is_pushed_to_each(admin, workers, "before")
    assert await submit(admin, "running", payload={"wait": "go"}) == "assigned"
    await admin.execute_command("WAITAOF", 1, 0, int(PATIENCE * 1000))
    own_valkey.stop(signal.SIGKILL)
    if not keeps:
        text = own_valkey.settings.read_text(encoding="utf-8")
        assert "appendonly yes" in text
        own_valkey.settings.write_text(
            text.replace("appendonly yes", "appendonly no"), encoding="utf-8"
        )
    own_valkey.start()
    if keeps:
        (workers.folder / "go").touch()
        end = await end_of(JobQueue(admin), "running")
        assert end.job
        assert (end.kind, end.job.fence, end.job.history) == ("completed", 1, ())
    else:
        with pytest.raises(JobNotFound):
            await JobQueue(admin).get("running")
    await is_pushed_to_each(admin, workers, "after")
    assert ("cancelled running" in workers.journal()) is not keeps
    await nothing_is_left(admin)

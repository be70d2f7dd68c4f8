"""A failover while jobs are pushed: what was replicated ends once, and what was lost is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.errors import JobNotFound
from machine_lifecycle.jobs.messages import Messages
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import as_lifecycle_error, connect
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.valkey import find_server
from tests.integration.test_jobs_pushes import has_room
from tests.support.patience import PATIENCE
from tests.support.sentinel import Watched
from tests.support.workers import Workers

NAMES = ("w-1", "w-2", "w-3")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path, str(find_server()))
    try:
        found.start()
        yield found
    finally:
        found.close()


@attrs.define
class Submitter:
    """Submits jobs, and knows what became of them."""

    url: str
    redis: Redis
    line: Line
    client: JobQueue

    async def submit(self, job_id: str, **payload: str) -> str:
        """Its status, the moment that it was submitted."""
        await self.client.submit(payload, service_required="simulation", job_id=job_id)
        return await self.status(job_id)

    async def status(self, job_id: str) -> str:
        return str(await self.redis.hget(keys.job(job_id), "status"))

    async def submit_until_taken(self, job_id: str) -> list[str]:
        """The codes of the errors with which it was refused before."""
        codes: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.submit(job_id)
                except (RedisError, OSError) as error:
                    codes.append(as_lifecycle_error(error, self.url).code)
                    await asyncio.sleep(0.02)  # sleep: nobody tells when there is a primary again
                else:
                    return codes

    async def replicated(self) -> None:
        """Return when the replica has all that was submitted."""
        assert await self.line.execute_command("WAIT", 1, int(PATIENCE * 1000)) == 1

    async def ended(self, *ids: str) -> list[str]:
        """How these ended. What is told of it may be lost in a failover."""
        async with asyncio.timeout(PATIENCE):
            for job_id in ids:
                while not (await self.client.get(job_id)).ended:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(0.02)
        return [await self.status(job_id) for job_id in ids]


@pytest_asyncio.fixture
async def submitter(watched: Watched) -> AsyncIterator[Submitter]:
    url = f"redis+sentinel://127.0.0.1:{watched.sentinel}/main"
    async with (
        contextlib.aclosing(connect(url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
        Messages(redis) as messages,
    ):
        yield Submitter(url, redis, line, JobQueue(redis, line, messages))


async def begin_failover(watched: Watched) -> asyncio.Task[None]:
    """Kill the primary; what ends when the replica has taken its place."""
    loop, killed = asyncio.get_running_loop(), asyncio.Event()

    def fail_over() -> None:
        with watched.switching():
            watched.kill_primary()
            loop.call_soon_threadsafe(killed.set)

    switching = asyncio.create_task(asyncio.to_thread(fail_over))
    await killed.wait()
    return switching


async def test_what_was_replicated_ends_once_and_what_was_lost_is_told(
    watched: Watched, submitter: Submitter, workers: Workers
) -> None:
    redis = submitter.redis
    for index, name in enumerate(NAMES):
        await workers.start(submitter.url, index=index, WORKER_ID=name)
    for name in NAMES:
        await has_room(redis, name)
    short = [f"short-{number}" for number in range(20)]
    for job_id in short:
        await submitter.submit(job_id)
    assert set(await submitter.ended(*short)) == {"completed"}
    assert await submitter.submit("kept", wait="go") == "assigned"
    await submitter.replicated()

    watched.leave_behind()
    lost = [f"lost-{number}" for number in range(4)]
    told = [await submitter.submit(job_id, wait="go") for job_id in lost]
    assert told == ["assigned", "assigned", "pending", "pending"]
    asking = [asyncio.create_task(submitter.client.result(job_id)) for job_id in lost]
    running = {name: await redis.hget(keys.worker(name), "pushed") for name in NAMES}
    assert sum(int(number or 0) for number in running.values()) >= 3
    switching = await begin_failover(watched)
    later = [f"later-{number}" for number in range(20)]
    refused = Counter[str]()
    for job_id in later:
        refused.update(await submitter.submit_until_taken(job_id))
    await switching
    assert set(refused) <= {"redis-unreachable", "redis-refuses"}

    for job_id, result in zip(lost, asking, strict=True):
        with pytest.raises((JobNotFound, RedisError, OSError)):
            await asyncio.wait_for(result, PATIENCE)
        with pytest.raises(JobNotFound):
            await submitter.client.get(job_id)
    assert set(await submitter.ended(*later)) == {"completed"}
    async with asyncio.timeout(PATIENCE):  # what is no job any more is no longer worked on
        cut = {f"cancelled {job_id}" for job_id in lost[:2]}
        while not cut <= set(workers.journal()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
    (workers.folder / "go").touch()
    assert await submitter.ended("kept") == ["completed"]
    kept = await submitter.client.get("kept")
    assert (kept.fence, kept.fields.get("crashes"), kept.retry_count) == (1, None, 0)

    for name in NAMES:
        await has_room(redis, name)
    again = [f"again-{number}" for number in range(6)]
    for job_id in (*again, *lost):
        await submitter.submit(job_id)
    assert set(await submitter.ended(*again, *lost)) == {"completed"}
    ends = Counter(line for line in workers.journal() if line.startswith("end "))
    assert ends == Counter(f"end {job_id}" for job_id in (*short, "kept", *later, *again, *lost))
    assert {worker.returncode for worker in workers.running} == {None}
    assert [await redis.exists(name) for name in (keys.PENDING, keys.LEASES)] == [0, 0]

"""What ended jobs may take of a server's memory, whatever their size."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.functions import FunctionsWithFiles, QueueFunctions
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_line import Line
from tests.integration.test_jobs_queue import claim, minutes_ago, profile, put

MIB = 2**20
QUARTER = 16 * MIB


async def complete(redis: Redis, job_id: str, fence: int, *, result: int, picture: int) -> None:
    """As a worker does, with a result and a file of so many bytes."""
    key = keys.output(job_id, 0)
    text = json.dumps({"data": "x" * result, "output_files": [{"metadata": {"key": key}}]})
    async with contextlib.aclosing(Line(redis)) as line:
        answers, *_ = await FunctionsWithFiles(line).call_after(
            {key: b"\xff" * picture}, 86400, "ml1_turn", "w1", "m1", "", "", 20000, 0,
            job_id, fence, text, "{}", f"worker:completion:step-id:{job_id}:attempt:1", 5,
            "simulation",
        )  # fmt: skip
    assert answers == ["ok"]


@pytest.fixture
async def small(own_valkey: Any) -> Any:
    """A server that may hold 64 MiB, of which a quarter is for what completed."""
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await redis.config_set("maxmemory", 4 * QUARTER)
        yield redis


async def held(redis: Any, name: str = keys.COMPLETED) -> int:
    return int(await redis.get(f"{name}:heavy:bytes") or 0)


async def test_big_results_take_no_more_than_their_share(small: Any) -> None:
    client, done = JobQueue(small), []
    for _ in range(60):  # 90 MiB in all
        await client.submit({"picture": "p" * (MIB // 2)}, service_required="simulation")
        _, job_id, fence, _ = await claim(small)
        await complete(small, job_id, fence, result=MIB // 4, picture=3 * MIB // 4)
        done.append(job_id)
        assert await held(small) <= 2 * QUARTER
    # What ended just now is held up to twice the share, …
    assert await held(small) > QUARTER
    assert await small.exists(keys.output(done[-1], 0)) == 1
    assert (await client.get(done[-1])).result is not None
    assert await small.keys(f"*{done[0]}*") == []
    # … and after five minutes up to the share, as is found by the next heartbeat.
    name = f"{keys.COMPLETED}:heavy:at"
    await small.zadd(name, dict.fromkeys(await small.zrange(name, 0, -1), minutes_ago(6)))
    await QueueFunctions(small).call("ml1_beat", "w1", profile()[0], 20000)
    assert QUARTER / 2 < await held(small) <= QUARTER
    left = set(await small.hkeys(f"{keys.COMPLETED}:heavy"))
    assert left == set(await small.zrange(name, 0, -1)) == set(await small.hkeys(keys.COMPLETED))
    sizes = [int(size) for size in await small.hvals(f"{keys.COMPLETED}:heavy")]
    assert sum(sizes) == await held(small)
    assert all(abs(size - 1.5 * MIB) < 1000 for size in sizes)


async def test_a_result_that_is_written_twice_is_counted_once(small: Any) -> None:
    await JobQueue(small).submit({}, service_required="simulation")
    _, job_id, fence, _ = await claim(small)
    for _ in range(2):  # the answer was lost on its way
        await complete(small, job_id, fence, result=MIB, picture=10)
    assert abs(await held(small) - MIB) < 1000


async def test_jobs_that_fail_take_no_more_than_their_share_either(small: Any) -> None:
    client, ids = JobQueue(small), []
    for _ in range(60):
        ids.append(await client.submit({"picture": "p" * MIB}, service_required="simulation"))
        await client.cancel(ids[-1])
        assert await held(small, keys.FAILED) <= 2 * QUARTER
    assert await small.keys(f"*{ids[0]}*") == []
    retried = ids[-1]
    before = await held(small, keys.FAILED)
    assert await QueueFunctions(small).call("ml1_retry", retried) == "ok"
    assert before - await held(small, keys.FAILED) > MIB


async def test_what_is_set_aside_goes_too_where_memory_would_run_out(small: Any) -> None:
    ids = [f"job-{number}" for number in range(60)]
    for job_id in ids:  # as another party submits what nobody can ever run
        await put(small, job_id, service_required="", payload="p" * MIB)
        await QueueFunctions(small).call("ml1_adopt", job_id)
    assert 10 < await small.zcard(keys.DEAD) < 40
    assert await small.zcard(keys.DEAD) == await small.hlen("jobs:dead:reasons")
    assert await small.keys(f"*{ids[0]}*") == []


async def test_records_of_tries_go_with_the_job(redis: Redis) -> None:
    functions, client = QueueFunctions(redis), JobQueue(redis)
    await client.submit({}, service_required="simulation", workflow_id="w", max_retries=3)
    for again in (1, 1, 0):
        _, job_id, fence, _ = await claim(redis)
        name = keys.attestation(job_id, "w")
        await functions.call(
            "ml1_fail",
            "w1",
            job_id,
            fence,
            "it broke",
            "{}",
            again,
            0,
            "{}",
            name,
            "m1",
            "transient",
        )
    assert len(await redis.keys("worker:failure:*")) == 3
    crowd = {f"x{number}": 1_900_000_000_000 for number in range(10_000)}
    await redis.zadd(f"{keys.FAILED}:at", {**crowd, job_id: minutes_ago(6)})
    await functions.call("ml1_beat", "w1", profile()[0], 20000)
    assert await redis.keys("worker:failure:*") == []
    assert await redis.keys("w*:*:permanent") == []
    assert await redis.keys(f"*{job_id}*") == []


async def fill(redis: Redis) -> None:
    while True:
        await JobQueue(redis).submit({"x": "y" * 500_000}, service_required="simulation")


async def test_a_full_server_has_those_jobs_done_that_it_holds(small: Any) -> None:
    client, functions = JobQueue(small), QueueFunctions(small)
    await claim(small)
    with pytest.raises(OutOfMemoryError):
        await fill(small)
    await small.config_set("maxmemory", (await small.info("memory"))["used_memory"] - MIB)
    for number in range(20):
        _, job_id, fence, _ = await claim(small)
        held = (job_id, fence)
        beat = await functions.call("ml1_beat", "w1", profile()[0], 20000, *held)
        assert beat[0] == []
        if number % 2:
            await functions.call("ml1_release", "w1", *held, "release", "")
            assert await client.cancel(job_id) == "cancelled"
        else:
            result = (job_id, fence, "{}", "{}", f"worker:completion:{job_id}", 5, "simulation")
            answer = await functions.call("ml1_turn", "w1", "m1", "", "0", 20000, 0, *result)
            assert answer[0] == ["ok"]
    with pytest.raises(OutOfMemoryError):
        await client.submit({}, service_required="simulation")

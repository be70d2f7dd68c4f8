"""The queue's own index stays true to what waits, at a bounded cost for each call."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from tests.integration.test_jobs_queue import call, claim, profile, turn, woken
from tests.support.patience import PATIENCE


async def beat(redis: Redis, worker: str = "w1") -> Any:
    return await call(redis, "ml1_beat", worker, profile()[0], 20000)


async def submit_many(redis: Redis, count: int, **facts: Any) -> list[str]:
    client = JobQueue(redis)
    facts.setdefault("service_required", "simulation")
    return [await client.submit({}, **facts) for _ in range(count)]


async def indexed(redis: Redis) -> int:
    return sum([await redis.zcard(key) for key in await redis.keys("jobs:class:*")])


async def test_what_another_party_took_away_leaves_the_index_by_and_by(redis: Redis) -> None:
    await claim(redis)
    many = await submit_many(redis, 700)
    few = [
        job_id
        for number in range(50)
        for job_id in await submit_many(redis, 1, customer_id=f"customer {number}")
    ]
    kept = many[::100] + few[::10]
    gone = [job_id for job_id in many + few if job_id not in kept]
    await redis.zrem(keys.PENDING, *gone)
    before = await indexed(redis)
    await beat(redis)
    assert 0 < before - await indexed(redis) < 500, "a step is bounded"
    for _ in range(12):
        await beat(redis)
    assert await indexed(redis) == int(await redis.get("jobs:index:size") or 0) == len(kept)
    assert {(await claim(redis))[1] for _ in kept} == set(kept)


async def test_what_was_taken_away_and_replaced_leaves_the_index_too(redis: Redis) -> None:
    """The numbers are equal then: the search finds the one, and leads to the other."""
    await claim(redis)
    (gone,) = await submit_many(redis, 1)
    await redis.zrem(keys.PENDING, gone)
    await redis.hset("job:theirs", mapping={"id": "theirs", "service_required": "simulation"})
    await redis.zadd(keys.PENDING, {"theirs": 1})
    for _ in range(3):
        await beat(redis)
    assert await indexed(redis) == int(await redis.get("jobs:index:size") or 0) == 1
    assert (await claim(redis))[1] == "theirs"


async def test_jobs_for_others_by_name_cost_a_worker_nothing(own_valkey: Any) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await claim(redis)

        async def commands() -> int:
            before = (await redis.info("commandstats"))["cmdstat_zrevrange"]["calls"]
            assert (await claim(redis))[0] == "none"
            return int((await redis.info("commandstats"))["cmdstat_zrevrange"]["calls"] - before)

        alone = await commands()
        for number in range(100):
            for kind in ("worker_id", "machine_id"):
                await submit_many(redis, 1, requirements={kind: f"other-{number}"})
        assert await commands() == alone
        (either,) = await submit_many(redis, 1, requirements={"worker_id": ["w1"]})
        assert (await claim(redis))[1] == either
        assert (await claim(redis, "other-7"))[0] == "job"
        assert (await turn(redis, "w3", machine="other-8"))[1] != []


async def test_lists_that_name_other_workers_cost_a_worker_nothing(own_valkey: Any) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await claim(redis)

        async def commands() -> int:
            await redis.config_resetstat()
            assert (await claim(redis))[0] == "none"
            stats = await redis.info("commandstats")
            return sum(stat["calls"] for stat in stats.values())

        alone = await commands()
        for number in range(100):
            for kind in ("worker_id", "machine_id"):
                names = [f"other-{number}"]
                await submit_many(redis, 1, requirements={kind: names})
                await submit_many(
                    redis, 1, service_required="elsewhere",
                    requirements={"negative_requirements": {kind: [*names, f"more-{number}"]}},
                )  # fmt: skip
        assert await commands() == alone


@pytest.mark.parametrize("kind", ["worker_id", "machine_id"])
@pytest.mark.parametrize("many", [False, True], ids=["a name", "a list"])
async def test_who_is_named_in_what_a_job_must_not_have_leaves_it_to_others(
    redis: Redis, kind: str, *, many: bool
) -> None:
    wanted = {"worker_id": "w1", "machine_id": "m1"}[kind]
    machines = {"w1": "m1", "w2": "m2"}
    listeners = {}
    for worker, machine in machines.items():
        await redis.hset(f"worker:{worker}", mapping={"worker_id": worker, "machine_id": machine})
        assert (await turn(redis, worker, machine=machine))[1] == []
        listeners[worker] = redis.pubsub(ignore_subscribe_messages=True)
        await listeners[worker].subscribe(keys.wake(worker))
    negative = {kind: [wanted, "w3"] if many else wanted}
    jobs = await submit_many(redis, 70, requirements={"negative_requirements": negative})
    assert await woken(listeners["w2"]) == keys.wake("w2")
    (free,) = await submit_many(redis, 1)
    assert [job[0] for job in (await turn(redis, "w1", machine="m1", want=9))[1]] == [free]
    assert (await turn(redis, "w1", machine="m1"))[1] == []
    assert await listeners["w1"].get_message() is None
    assert [job[0] for job in (await turn(redis, "w2", machine="m2", want=70))[1]] == jobs
    for listener in listeners.values():
        await listener.aclose()


async def test_many_classes_that_bar_a_worker_keep_it_from_no_other(redis: Redis) -> None:
    await claim(redis)
    for number in range(100):
        negative = {"worker_id": ["w1", f"other-{number}"]}
        await submit_many(redis, 1, requirements={"negative_requirements": negative})
    assert (await turn(redis))[1:3] == [[], ""], "it is not to ask again and again"
    (free,) = await submit_many(redis, 1)
    assert (await claim(redis))[1] == free
    assert len((await turn(redis, "w2", want=100))[1]) == 100


async def test_what_bars_all_says_so(redis: Redis) -> None:
    await redis.hset("worker:w1", mapping={"worker_id": "w1", "machine_id": "m1"})
    await claim(redis)
    (job_id,) = await submit_many(
        redis, 1, requirements={"negative_requirements": {"worker_id": ["w1"]}}
    )
    assert (await claim(redis))[0] == "none"
    why = await JobQueue(redis).why(job_id)
    assert "worker_id must not be" in str(why)
    for odd in ("all", 5, {"a": 1}, ["all"]):
        await submit_many(redis, 1, requirements={"negative_requirements": {"worker_id": odd}})
    assert await redis.scard("jobs:personal") == 4, "what is more than names is looked at"


async def test_a_class_that_bars_workers_is_forgotten_like_others(redis: Redis) -> None:
    requirements = {"negative_requirements": {"worker_id": ["w8", "w9"]}}
    await submit_many(redis, 1, requirements=requirements)
    assert await redis.exists("jobs:barred:worker:w8", "jobs:barred:worker:w9") == 2
    assert 0 < await redis.ttl("jobs:barred:worker:w8") <= 7 * 86400
    assert (await claim(redis))[0] == "job"
    known = str((await redis.zrange("jobs:classes:used", 0, -1))[0])
    await redis.zadd("jobs:classes:used", {known: 1})
    await beat(redis)
    assert await redis.keys("jobs:barred:*") == []
    assert not await redis.hexists("jobs:classes", known)


async def test_a_job_for_a_worker_by_name_wakes_that_one(redis: Redis) -> None:
    listeners = {}
    for worker in ("w1", "w2"):
        assert (await claim(redis, worker))[0] == "none"
        listeners[worker] = redis.pubsub(ignore_subscribe_messages=True)
        await listeners[worker].subscribe(keys.wake(worker))
    await submit_many(redis, 1, requirements={"worker_id": "w2"})
    assert await woken(listeners["w2"]) == keys.wake("w2")
    assert await listeners["w1"].get_message() is None
    for listener in listeners.values():
        await listener.aclose()


async def test_a_profile_leaves_many_classes_in_bounded_steps(redis: Redis) -> None:
    big, client = {"gpu_memory_gb": 141}, JobQueue(redis)
    digest, text = profile(hardware=big)
    await claim(redis, "big", hardware=big)
    await claim(redis)
    jobs = [
        await client.submit(
            {}, service_required="simulation", customer_id=f"customer {number}",
            requirements={"gpu_memory_gb": 80},
        )
        for number in range(900)
    ]  # fmt: skip

    async def fitted() -> int:
        return len(await redis.keys("jobs:fits:*"))

    assert await fitted() == 900
    await call(redis, "ml1_leave", "big", digest)
    assert 300 < await fitted() < 900
    while await redis.exists("jobs:leaving"):
        await beat(redis)
    assert await fitted() == 0
    while (await turn(redis))[2]:
        continue
    assert {(await client.get(job_id)).status for job_id in jobs} == {"unworkable"}
    # One that comes back in the midst of it is not taken for gone.
    await call(redis, "ml1_profile", "big", digest, text, "")
    await call(redis, "ml1_leave", "big", digest)
    cursor = ""
    while cursor != "0":
        cursor = await call(redis, "ml1_profile", "big", digest, text, cursor)
    assert not await redis.exists("jobs:leaving")
    assert len((await turn(redis, "big", want=900, hardware=big))[1]) > 0


async def test_names_of_workers_that_are_gone_are_forgotten(redis: Redis) -> None:
    gone = [f"gone-{number}" for number in range(20)]
    await redis.sadd(keys.ACTIVE_WORKERS, "w1", "theirs", *gone)
    await redis.set(keys.heartbeat("theirs"), "now")  # one of the hub, that beats
    async with asyncio.timeout(PATIENCE):
        while await redis.scard(keys.ACTIVE_WORKERS) > 2:
            await beat(redis)
    assert await redis.smembers(keys.ACTIVE_WORKERS) == {"w1", "theirs"}

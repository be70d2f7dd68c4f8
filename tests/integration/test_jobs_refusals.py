"""What Redis refuses for good about one job ends that job, and is no matter for the others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.oversize_errors import JobTooLarge
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_errors import RedisKeyForeign
from machine_lifecycle.system.redis_foreign import ForeignKey
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.redis_rights import rules
from tests.integration.test_jobs_queue import RESULT, call, claim, fail, profile, turn


def result(job_id: str, fence: int) -> tuple[Any, ...]:
    key = f"worker:completion:step-id:{job_id}:attempt:1"
    return (job_id, fence, RESULT, "{}", key, 5, "simulation")


async def write(redis: Redis, *results: tuple[Any, ...]) -> list[str]:
    words = [word for each in results for word in each]
    answer = await call(redis, "ml1_turn", "w1", "m1", "", "0", 20000, 0, *words)
    return list(answer[0])


async def test_other_things_in_the_place_of_progress_cost_no_job(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = [await client.submit({}, service_required="simulation") for _ in range(3)]
    for job_id in ids[:2]:
        await redis.delete(keys.progress_stream(job_id))
        await redis.set(keys.progress_stream(job_id), "somebody else's")
    await redis.set(keys.job_progress(ids[1]), "somebody else's")
    got = {job[0]: int(job[1]) for job in (await turn(redis, want=3))[1]}
    assert list(got) == ids
    assert await call(redis, "ml1_release", "w1", ids[0], got[ids[0]], "release", "") == "released"
    assert (await claim(redis))[1:3] == [ids[0], 2]
    got[ids[0]] = 2
    with contextlib.suppress(Exception):
        await call(redis, "ml1_progress", "w1", ids[1], got[ids[1]], 50, "half", 1, 2)
    assert await write(redis, *(result(job_id, got[job_id]) for job_id in ids)) == ["ok"] * 3
    assert await redis.get(keys.progress_stream(ids[0])) == "somebody else's"
    for job_id in ids:
        record = await client.get(job_id)
        assert (record.status, record.result) == ("completed", json.loads(RESULT))
        kinds = [event.kind async for event in client.watch(job_id, replay=True)]
        assert kinds[-1] == "completed"
    assert await redis.keys("jobs:active:*") == []
    assert not await redis.exists(keys.LEASES)


async def test_a_claim_that_is_broken_off_loses_no_job(redis: Redis) -> None:
    await claim(redis, "w2")
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    await redis.set(keys.active("w1"), "somebody else's")
    with pytest.raises(ForeignKey, match="jobs:active:w1 is no hash"):
        await claim(redis)
    await redis.zadd(keys.LEASES, {job_id: 1})  # it is over
    assert (await claim(redis, "w2"))[0] == "none"
    await call(redis, "ml1_beat", "w2", profile()[0], 20000)
    assert (await claim(redis, "w2"))[1] == job_id


@pytest.fixture
async def restricted(own_valkey: Any) -> AsyncIterator[tuple[Redis, Redis]]:
    """A client that may attest nothing of the job `bad`, and write nothing at all of `worse`; and
    one that may do anything.
    """
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        allowed = [rule for rule in rules() if rule not in {"~worker:*", "~job:*"}]
        kept = ("~worker:w*", "~worker:*step-id:good*", "~worker:failure:*good*", "~job:good*")
        await redis.execute_command(
            "ACL", "SETUSER", "some", "on", ">secret", *allowed, *kept, "~job:bad*"
        )
        url = own_valkey.url.split("@", 1)
        async with contextlib.aclosing(connect(f"unix://some:secret@{url[1]}")) as other:
            yield other, redis


async def test_what_may_not_be_written_of_one_job_ends_it_with_the_reason(
    restricted: tuple[Redis, Redis],
) -> None:
    some, redis = restricted
    client = JobQueue(redis)
    for job_id in ("good-1", "bad", "good-2"):
        await client.submit({}, service_required="simulation", job_id=job_id)
    got = {job[0]: int(job[1]) for job in (await turn(some, want=3))[1]}
    answers = await write(some, *(result(job_id, got[job_id]) for job_id in got))
    said = dict(zip(got, answers, strict=True))
    assert (said["good-1"], said["good-2"]) == ("ok", "ok")
    assert said["bad"].startswith("refused Redis refuses it: ")
    record = await client.get("bad")
    assert record.status == "failed"
    assert "ACL failure" in record.error
    assert "completed_at" not in record.fields
    assert [job.id for job in await client.list(status="dead")] == ["bad"]
    assert await redis.keys("jobs:active:*") == []
    assert not await redis.exists(keys.LEASES)
    # An error can't be written either: it is the same.
    await client.retry("bad")
    _, job_id, fence, _ = await claim(some)
    assert (await fail(some, job_id, fence, again=True)).startswith("refused Redis refuses it: ")
    assert (await client.get("bad")).status == "failed"


async def test_what_may_not_even_end_stays_as_it_is_and_holds_nobody_up(
    restricted: tuple[Redis, Redis],
) -> None:
    some, redis = restricted
    client = JobQueue(redis)
    for job_id in ("good", "worse"):
        await client.submit({}, service_required="simulation", job_id=job_id)
    got = {job[0]: int(job[1]) for job in (await turn(redis, want=2))[1]}
    answers = await write(some, *(result(job_id, got[job_id]) for job_id in got))
    said = dict(zip(got, answers, strict=True))
    assert said["good"] == "ok"
    assert said["worse"].startswith("unwritten Redis refuses it: ")
    assert (await client.get("worse")).status == "assigned"
    assert await write(redis, result("worse", got["worse"])) == ["ok"]


@pytest.mark.parametrize("size", [1000, 5_000_000], ids=["with the call", "before it"])
async def test_no_result_is_written_whose_files_are_refused(own_valkey: Any, size: int) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        client, functions = JobQueue(redis), FunctionsWithFiles(line)
        for job_id in ("first", "second"):
            await client.submit({}, service_required="simulation", job_id=job_id)
        fences = {job[0]: int(job[1]) for job in (await turn(redis, want=2))[1]}

        async def write(job_id: str) -> list[str]:
            files = {keys.output(job_id, n): bytes([n]) * size for n in range(2)}
            words = ("w1", "m1", "", "0", 20000, 0, *result(job_id, fences[job_id]))
            return list((await functions.call_after(files, 60, "ml1_turn", *words))[0])

        assert await write("first") == ["ok"]
        await redis.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match="OOM command"):
            await write("second")
        assert (await client.get("second")).status == "assigned"
        assert not await redis.exists(keys.output("second", 0), keys.output("second", 1))
        await redis.config_set("maxmemory", 0)
        await redis.execute_command("FUNCTION", "FLUSH")
        assert await write("second") == ["ok"]
        assert await redis.strlen(keys.output("second", 1)) == size


@pytest.mark.parametrize(("key", "kind"), [(keys.PENDING, "sorted set"), ("jobs:classes", "hash")])
async def test_who_submits_is_told_of_a_key_that_somebody_else_has_taken(
    own_valkey: Any, key: str, kind: str
) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await redis.set(key, "somebody else's")
    with pytest.raises(RedisKeyForeign) as told:
        async with open_job_queue(own_valkey.url) as client:
            await client.submit({}, service_required="simulation")
    assert (told.value.code, told.value.key) == ("redis-key-foreign", key)
    assert f"the key {key} is no {kind}" in told.value.summary
    commands = [str(remedy.command) for remedy in told.value.remedies]
    assert commands[1].endswith(f" rename {key} {key}.aside")


async def test_who_lists_jobs_is_told_of_it_too(own_valkey: Any) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await redis.set(keys.DEAD, "somebody else's")
    with pytest.raises(RedisKeyForeign, match=f"the key {keys.DEAD} is no sorted set"):
        async with open_job_queue(own_valkey.url) as client:
            await client.list(status="dead")


async def test_what_is_wrong_with_no_key_of_the_queue_is_told_as_it_is(redis: Redis) -> None:
    await claim(redis)
    await redis.delete("jobs:heads:" + profile()[0])
    await redis.set("jobs:heads:" + profile()[0], "somebody else's")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await JobQueue(redis).submit({}, service_required="simulation")


async def test_counts_that_are_no_numbers_stop_nobody(redis: Redis) -> None:
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    for key in (
        f"{keys.COMPLETED}:heavy:bytes",
        "jobs:index:size",
        "jobs:index:cursor",
        "jobs:heard",
    ):
        await redis.set(key, "no number")
    await call(redis, "ml1_beat", "w1", profile()[0], 20000)
    assert (await claim(redis))[1] == job_id


async def test_of_what_can_not_be_recorded_nothing_is_written(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    before = await redis.hgetall(keys.job(job_id))
    await redis.set(f"{keys.FAILED}:at", "somebody else's")
    with pytest.raises(ForeignKey, match=f"{keys.FAILED}:at is no sorted set"):
        await client.cancel(job_id)
    with pytest.raises(ForeignKey, match=f"{keys.FAILED}:at is no sorted set"):
        await fail(redis, job_id, fence, again=False)
    await redis.rename(f"{keys.FAILED}:at", keys.COMPLETED)
    with pytest.raises(ForeignKey, match=f"{keys.COMPLETED} is no hash"):
        await write(redis, result(job_id, fence))
    assert await redis.hgetall(keys.job(job_id)) == before
    assert await redis.zscore(keys.LEASES, job_id)
    await redis.delete(keys.COMPLETED)
    assert await write(redis, result(job_id, fence)) == ["ok"]


@pytest.mark.parametrize("limit", ["proto-max-bulk-len", "client-query-buffer-limit"])
async def test_a_job_that_is_too_large_for_its_server_is_told_as_that(
    own_valkey: Any, limit: str
) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        open_job_queue(own_valkey.url) as client,
    ):
        await redis.config_set(limit, 2**20)
        for queue in (client, JobQueue(redis)):
            with pytest.raises(JobTooLarge) as told:
                await queue.submit(
                    {"x": "y" * 3 * 2**20}, service_required="simulation", job_id="large"
                )
            error = told.value
            assert (error.size // 2**20, error.limits[limit]) == (3, 2**20)
            assert "3.0 MiB as it is sent, is more than Redis takes at once (" in str(error)
            assert f"{limit} 1.0 MiB" in error.summary
            assert "redis-cli config set" in str(error.remedies[-1])
            assert not await redis.exists(keys.job("large"))
            await queue.submit({"x": "y"}, service_required="simulation", job_id="small")
        await redis.config_set(limit, 2**30)
        await client.submit({"x": "y" * 3 * 2**20}, service_required="simulation", job_id="large")
        assert await redis.zcard(keys.PENDING) == 2


async def test_limits_that_a_user_is_not_told_are_not_told(
    restricted: tuple[Redis, Redis], own_valkey: Any
) -> None:
    some, redis = restricted
    await redis.config_set("proto-max-bulk-len", 2**20)
    with pytest.raises(JobTooLarge) as told:
        await JobQueue(some).submit({"x": "y" * 3 * 2**20}, service_required="x", job_id="good")
    assert told.value.limits == {}
    assert str(told.value.remedies[-1].command).startswith("redis-cli config set ")
    with pytest.raises(JobTooLarge) as known:
        async with open_job_queue(own_valkey.url) as client:
            await client.submit({"x": "y" * 3 * 2**20}, service_required="x")
    cli = RedisUrl.parse(own_valkey.url).cli
    assert str(known.value.remedies[-1].command).startswith(f"{cli} config set ")
    assert "is more than Redis takes at once: " in told.value.summary

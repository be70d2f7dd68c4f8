"""Whatever another party writes into a job costs that job, and nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.errors import JobStateRefuses
from machine_lifecycle.jobs.unrunnable_errors import JobUnrunnable
from machine_lifecycle.system import redis_keys as keys
from tests.integration.test_jobs_queue import (
    call,
    claim,
    complete,
    fail,
    heard_message,
    profile,
    put,
)
from tests.support.workers import ROUTES, Workers, end_of

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


def nested(depth: int) -> str:
    return '{"features":' + '{"a":' * depth + "1" + "}" * depth + "}"


@pytest.mark.parametrize(
    ("requirements", "reason"),
    [
        ('{"models": [[1]]}', "requirement models names no models"),
        ('{"models": true}', "requirement models names no models"),
        ('{"models": {"simulation": {"a": "b"}}}', "requirement models names no models"),
        ('{"gpu_memory_gb": NaN}', "requirements hold a number that is none"),
        ('{"features": [1e999]}', "requirements hold a number that is none"),
        (nested(33), "requirements are nested deeper than 32"),
        (nested(998), "requirements are nested deeper than 32"),
        (nested(5000), "requirements are not JSON"),
    ],
)
async def test_requirements_that_make_no_sense(
    redis: Redis, requirements: str, reason: str
) -> None:
    await put(redis, "bad", requirements=requirements)
    await put(redis, "good", priority=1)
    assert (await claim(redis))[1] == "good"
    assert (await claim(redis, "w2", features=["one more kind of worker"]))[0] == "none"
    assert await redis.hget("jobs:dead:reasons", "bad") == reason


@pytest.mark.parametrize(
    ("requirements", "fits"),
    [
        ({"models": {"simulation": "sdxl"}}, True),
        ({"models": {"simulation": 5}}, False),
        ({"models": {"simulation": None}}, True),
        ({"models": {"other": ["flux"]}}, True),
        ({"models": "flux"}, False),
        ({"negative_requirements": {"models": {"simulation": ["sdxl"]}}}, False),
        ({"negative_requirements": {"models": {"simulation": "flux"}}}, True),
        ({"": "", "...": 1}, False),
    ],
)
async def test_odd_requirements_that_can_be_met_or_not(
    redis: Redis, requirements: dict[str, Any], *, fits: bool
) -> None:
    await put(redis, "odd", requirements=json.dumps(requirements))
    assert ((await claim(redis))[0] == "job") is fits
    assert await redis.zcard("jobs:dead") == 0


async def test_what_a_worker_advertises_wrongly_costs_no_other(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit(
        {}, service_required="simulation", requirements={"models": ["sdxl"], "ram_gb": 1}
    )
    assert (await claim(redis, "w1", models=7, hardware=7))[0] == "none"
    (line,) = (await client.why(job_id)).words[1:]
    assert line.startswith("w1: can't be held against what is required")
    assert (await claim(redis, "w2"))[1] == job_id


async def test_an_id_that_is_no_text_is_set_aside(redis: Redis) -> None:
    broken = b"a-\xff\xfe"
    await redis.hset(b"job:" + broken, mapping={"id": "a", "service_required": "simulation"})
    await redis.zadd("jobs:pending", {broken: 1e17})
    await put(redis, "☃ 😀", priority=1)
    assert (await claim(redis))[1] == "☃ 😀"
    assert await redis.hget("jobs:dead:reasons", broken) == "its id is no UTF-8 text"
    client = JobQueue(redis)
    assert [job.id for job in await client.list()] == ["☃ 😀"]
    assert (await client.counts())["dead"] == 1


async def test_a_job_that_makes_no_sense_is_refused_and_leaves_nothing(redis: Redis) -> None:
    client = JobQueue(redis)
    with pytest.raises(JobUnrunnable, match="such a job: requirement gpu_memory_gb is no number"):
        await client.submit(
            {}, service_required="simulation", requirements={"gpu_memory_gb": "lots"}, job_id="bad"
        )
    with pytest.raises(JobUnrunnable, match="it names no service_required"):
        await client.submit({}, service_required="")
    assert await redis.keys("job*") == []


async def test_what_is_of_another_kind_is_refused_all_at_once(redis: Redis) -> None:
    client = JobQueue(redis)
    body: dict[str, Any] = {
        "payload": [1], "service_required": None, "priority": "high", "requirements": "gpu",
        "customer_id": "\ud800", "max_retries": float("nan"), "timeout_minutes": True,
        "ctx": [1], "workflow_id": 7, "workflow_datetime": "yesterday", "workflow_priority": 1e300,
        "current_step": "1", "total_steps": {}, "job_id": "a\0b",
    }  # fmt: skip
    with pytest.raises(JobUnrunnable) as told:
        await client.submit(**body)
    assert all(f"{name} " in told.value.reason for name in body)
    assert "payload must be an object, not list, and job_id holds what is" in told.value.reason
    assert "max_retries is more than can be counted with" in told.value.reason
    assert await redis.keys("job*") == []
    # A key that is no text in Redis names a job like any other, and each another one.
    ids = [
        await client.submit({}, service_required="simulation", idempotency_key=key)
        for key in ("\ud800", "\udfff", "\ud800")
    ]
    assert ids[0] == ids[2] != ids[1]


async def test_what_was_set_aside_and_is_no_better_is_not_tried_again(redis: Redis) -> None:
    client = JobQueue(redis)
    await put(redis, "bad", requirements="[1]")
    await redis.zadd("jobs:pending", {"ghost": 1e17})
    await claim(redis)
    with pytest.raises(JobUnrunnable, match="run job bad: requirements is a list, not an object"):
        await client.retry("bad")
    with pytest.raises(JobStateRefuses, match="ghost is without a record: it can't be tried again"):
        await client.retry("ghost")
    assert (await client.why("ghost")).words == ("nobody can ever run it: the job has no record",)
    assert {job.id for job in await client.list(status="dead")} == {"bad", "ghost"}
    await redis.hset("job:bad", "requirements", "{}")
    await client.retry("bad")
    assert (await claim(redis))[1] == "bad"


async def test_a_record_goes_by_its_own_id(redis: Redis) -> None:
    await put(redis, "mine", id="yours", created_at="0001-01-01T00:00:00")
    (record,) = await JobQueue(redis).list()
    assert (record.id, record.created_ms) == ("mine", 0)


async def test_a_job_of_another_party_with_a_number_of_tries_beyond_count(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    await put(redis, "tries", retry_count="1000000", payload='{"fail": "always"}')
    assert (await end_of(client, "tries")).kind == "failed"
    good = await client.submit({}, service_required="simulation")
    assert (await end_of(client, good)).kind == "completed"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{", "is not JSON: "),
        ("[1]", "is no JSON object"),
        ("7", "is no JSON object"),
        (DEEP, "is nested too deep"),
    ],
)
async def test_a_payload_that_can_not_be_read_fails_its_job_only(
    valkey: Any, redis: Redis, workers: Workers, payload: str, reason: str
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    await put(redis, "bad", payload=payload, ctx=DEEP)
    end = await end_of(client, "bad")
    assert end.job
    assert (end.kind, end.job.retry_count) == ("failed", 0)
    assert end.job.error_details["code"] == "payload-unreadable"
    assert f"the payload of job bad {reason}" in end.message
    good = await client.submit({}, service_required="simulation")
    assert (await end_of(client, good)).kind == "completed"
    assert [line.split()[:2] for line in workers.journal()] == [["run", good], ["end", good]]


async def test_words_on_a_channel_that_can_not_be_read_are_passed_over(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    first = await client.submit({}, service_required="simulation")
    await end_of(client, first)
    for channel in ("cancel_job", "job_submitted"):
        for text in (DEEP, "{", "[1]", '{"job_id": {"a": 1}}'):
            await redis.publish(channel, text)
    second = await client.submit({"wait": "go"}, service_required="simulation")
    assert await call(redis, "ml1_why", second)
    async for event in client.watch(second):
        if event.kind == "progress":
            assert await client.cancel(second) == "cancelling"
    assert (await client.get(second)).status == "cancelled"


async def test_what_is_told_to_a_worker_and_is_no_job_is_passed_over(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    worker = await workers.start(valkey.url, WORKER_ID="w-1")
    await end_of(client, await client.submit({}, service_required="simulation"))
    for record in ("7", "null", "[1]", '{"payload": null}', '{"payload": 1}', "{", DEEP):
        await redis.publish(keys.wake("w-1"), f'1 1 - "odd"\n{record}')
        await redis.publish(keys.wake("w-1"), f"1 1 - {record}\n{{}}")
    good = await client.submit({}, service_required="simulation")
    assert (await end_of(client, good)).kind == "completed"
    assert worker.returncode is None


async def test_a_job_that_asks_for_something_else_by_now_ends_no_worker(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    odd = await client.submit({}, service_required="simulation")
    other = ("service_required", "another", b"\xff", b"\xff", "retry_count", "many")
    await redis.hset(keys.job(odd), items=list(other))
    second = {**ROUTES[0], "asks": "upscale", "service": "other"}
    worker = await workers.start(valkey.url, WORKER_ROUTES=json.dumps([*ROUTES, second]))
    assert (await end_of(client, odd)).kind == "completed"
    good = await client.submit({}, service_required="upscale")
    assert (await end_of(client, good)).kind == "completed"
    assert worker.returncode is None


@pytest.mark.parametrize("kept", [keys.DELAYED, keys.LEASES])
async def test_a_place_that_is_none_costs_no_worker_its_beat(redis: Redis, kept: str) -> None:
    client = JobQueue(redis)
    odd, good = [await client.submit({}, service_required="simulation") for _ in range(2)]
    await redis.zrem(keys.PENDING, odd)
    await redis.zadd(kept, {odd: 1})
    await redis.hset(keys.job(odd), "queue_score", "many")
    await call(redis, "ml1_beat", "w1", "none", 20000)
    assert (await claim(redis))[1] == good
    record = await client.get(odd)
    assert (record.status, record.error.split(":")[0]) == ("failed", "Redis refuses it")


NO_NUMBERS = ("nan", "inf", "-1e400", "9" * 30, "many", "")


@pytest.mark.parametrize("text", NO_NUMBERS)
async def test_numbers_that_are_none_cost_no_job_its_result(redis: Redis, text: str) -> None:
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe(keys.COMPLETE_CHANNEL)
    client = JobQueue(redis)
    odd = await client.submit({}, service_required="simulation")
    fence = (await claim(redis))[2]
    names = ("payload_bytes", "retry_count", "max_retries", "workflow_priority", "current_step")
    await redis.hset(keys.job(odd), mapping=dict.fromkeys(names, text))
    assert await complete(redis, odd, fence) == "ok"
    assert await redis.hexists(keys.COMPLETED, odd), "it takes no more room than it does"
    assert (await heard_message(heard))["job_id"] == odd
    await heard.aclose()


@pytest.mark.parametrize("text", NO_NUMBERS)
async def test_numbers_that_are_none_keep_no_job_from_its_end(redis: Redis, text: str) -> None:
    client = JobQueue(redis)
    waits, fails = [await client.submit({}, service_required="simulation") for _ in range(2)]
    for job_id in (waits, fails):
        for name in ("retry_count", "max_retries", "workflow_priority"):
            await redis.hset(keys.job(job_id), name, text)
    assert await client.cancel(waits) == "cancelled"
    fence = (await claim(redis))[2]
    assert await fail(redis, fails, fence, again=False) == "failed"
    records = [json.loads(str(await redis.hget(keys.FAILED, job))) for job in (waits, fails)]
    assert all(record["retry_count"] >= 0 for record in records)


async def test_a_pushed_job_of_nobody_goes_back(redis: Redis) -> None:
    client = JobQueue(redis)
    odd = await client.submit({}, service_required="simulation")
    await claim(redis)
    await redis.hset(keys.job(odd), "pushed", "1 1 process 20000")
    await redis.hdel(keys.job(odd), "worker_id")
    await redis.zadd(keys.LEASES, {odd: 1})
    await call(redis, "ml1_beat", "w1", "none", 20000)
    assert (await client.get(odd)).status == "pending"


async def test_a_worker_whose_abilities_alone_were_lost_gets_no_job_that_names_it(
    redis: Redis,
) -> None:
    client = JobQueue(redis)
    await claim(redis)
    wanted = {"worker_id": "w1"}
    mine = await client.submit({}, service_required="simulation", requirements=wanted)
    await redis.delete("jobs:profiles")
    assert (await claim(redis))[0] == "none"
    await call(redis, "ml1_beat", "w1", profile()[0], 20000)  # it is told to tell them
    assert (await claim(redis))[1] == mine


async def test_an_answer_with_a_job_whose_number_of_runs_is_none_is_given_again_without_it(
    redis: Redis,
) -> None:
    client = JobQueue(redis)
    odd = await client.submit({}, service_required="simulation")
    assert (await claim(redis, token="0t-1"))[1] == odd
    await redis.hset(keys.job(odd), "fence", "many")
    assert (await claim(redis, token="0t-1"))[0] == "none"


async def test_what_its_user_meets_is_no_matter_of_redis(valkey: Any) -> None:
    for error in (FileNotFoundError("a file"), TimeoutError("mine"), ConnectionError("mine")):
        with pytest.raises(type(error)):
            async with open_job_queue(valkey.url):
                raise error

"""The queue's functions on a real Valkey: each change of a job is one atomic step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import time
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.errors import JobIdTaken, JobNotFound, JobStateRefuses
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.score import score
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_keys import iso
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE

CAPS: dict[str, Any] = {
    "worker_id": "w1",
    "job_service_required_map": ["simulation"],
    "hardware": {"gpu_memory_gb": 24, "ram_gb": 64, "cpu_cores": 8, "gpu_model": "L4"},
    "models": {"simulation": ["sdxl.safetensors"]},
    "customer_access": {"isolation": "loose", "allowed_customers": [], "denied_customers": ["bad"]},
    "features": ["upscale", "video"],
}


def profile(**extra: Any) -> tuple[str, str]:
    facts = {name: value for name, value in (CAPS | extra).items() if name != "worker_id"}
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32], text


async def turn(
    redis: Redis,
    worker: str = "w1",
    *,
    machine: str = "m1",
    want: int = 1,
    token: str = "",
    **extra: Any,
) -> Any:
    """One call as a worker makes it; it introduces itself when it is asked to."""
    functions = QueueFunctions(redis)
    digest, capabilities = profile(**extra)
    token = token or f"0{uuid.uuid4().hex}"
    while True:
        answer = await functions.call("ml1_turn", worker, machine, digest, token, 20000, want)
        if answer[2] == "profile":
            cursor = ""
            while cursor != "0":
                cursor = await functions.call("ml1_profile", worker, digest, capabilities, cursor)
        elif answer[2] != "more" or answer[1]:
            return answer


async def claim(redis: Redis, worker: str = "w1", *, token: str = "", **extra: Any) -> Any:
    """``["job", id, fence, fields]``, or ``["none", ms until one is due]``."""
    answer = await turn(redis, worker, token=token, **extra)
    return ["job", *answer[1][0]] if answer[1] else ["none", answer[3]]


async def call(redis: Redis, name: str, *args: Any) -> Any:
    return await QueueFunctions(redis).call(name, *args)


async def heard_message(heard: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        async for message in heard.listen():
            return json.loads(message["data"])
    raise AssertionError("the subscription ended")


async def woken(listener: Any) -> str:
    async with asyncio.timeout(PATIENCE):
        async for message in listener.listen():
            return str(message["channel"])
    raise AssertionError("the subscription ended")


RESULT = json.dumps({"success": True, "data": {"empty": []}, "processing_time_ms": 5})


async def complete(redis: Redis, job_id: str, fence: int, worker: str = "w1") -> str:
    answer = await call(
        redis, "ml1_turn", worker, "m1", "", "0t", 20000, 0,
        job_id, fence, RESULT, "{}", f"worker:completion:{job_id}", 5, "simulation",
    )  # fmt: skip
    return str(answer[0][0])


async def fail(redis: Redis, job_id: str, fence: int, *, again: bool, wait: int = 0) -> Any:
    return await call(
        redis, "ml1_fail", "w1", job_id, fence, "it broke", "{}", int(again), wait, "{}",
        f"step-id:{job_id}", "m1", "transient",
    )  # fmt: skip


async def test_a_submitted_job_has_the_agreed_fields(redis: Redis) -> None:
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe("job_submitted")
    client = JobQueue(redis)
    job_id = await client.submit(
        {"prompt": "x"}, service_required="simulation", requirements={"models": "all"},
        customer_id="c", ctx={"a": 1}, workflow_id="wf", current_step=1, total_steps=2,
    )  # fmt: skip
    fields = await redis.hgetall(f"job:{job_id}")
    message = await heard_message(heard)
    await heard.aclose()
    assert fields["status"] == "pending"
    assert json.loads(fields["payload"]) == {"prompt": "x"}
    assert fields["workflow_id"] == "wf"
    assert str(fields["created_at"]).endswith("Z")
    published = message
    assert published["job_id"] == job_id
    assert published["service_required"] == "simulation"
    assert published["workflow_id"] == "wf"
    record = await client.get(job_id)
    assert await redis.zscore("jobs:pending", job_id) == float(score(50, record.created_ms))


async def test_one_submitter_gets_first_in_first_out_within_a_priority(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = [await client.submit({}, service_required="simulation") for _ in range(20)]
    urgent = await client.submit({}, service_required="simulation", priority=60)
    got = [(await claim(redis))[1] for _ in range(21)]
    assert got == [urgent, *ids]


async def test_twenty_claimants_never_get_one_job_twice(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = {await client.submit({}, service_required="simulation") for _ in range(50)}

    async def take(worker: str) -> list[str]:
        mine: list[str] = []
        while True:
            answer = await claim(redis, worker, token=f"0{worker} {len(mine)}")
            if answer[0] != "job":
                return mine
            mine.append(answer[1])

    got = await asyncio.gather(*(take(f"w{number}") for number in range(20)))
    taken = [job_id for mine in got for job_id in mine]
    assert sorted(taken) == sorted(ids)


async def test_foreign_jobs_hide_nothing(redis: Redis) -> None:
    client = JobQueue(redis)
    for _ in range(1200):
        await client.submit({}, service_required="other", priority=90)
    mine = await client.submit({}, service_required="simulation", priority=1)
    assert (await claim(redis))[1] == mine


async def test_a_claim_whose_answer_was_lost_is_answered_again(redis: Redis) -> None:
    client = JobQueue(redis)
    await client.submit({}, service_required="simulation", job_id="one with spaces in its name")
    await client.submit({}, service_required="simulation")
    first = await claim(redis, token="0t")
    again = await claim(redis, token="0t")
    assert first[1:3] == again[1:3]


async def test_an_answer_that_was_lost_for_longer_than_its_lease_is_no_answer(redis: Redis) -> None:
    client = JobQueue(redis)
    first = await client.submit({}, service_required="simulation")
    assert (await claim(redis, token="0t"))[1] == first
    await call(redis, "ml1_recover", "w1", "nobody heard of it")
    assert (await claim(redis, "w2"))[1] == first
    second = await client.submit({}, service_required="simulation")
    assert (await claim(redis, token="0t"))[1] == second
    assert (await claim(redis, token="0t"))[1] == second


@pytest.mark.parametrize(
    ("requirements", "fits"),
    [
        ({}, True),
        ({"negative_requirements": {"features": ["audio"]}}, True),
        ({"negative_requirements": {"features": ["video"]}}, False),
        ({"timeout_minutes": 5, "quality_level": "high", "component": "x"}, True),
        ({"models": ["sdxl"]}, True),
        ({"models": ["flux"]}, False),
        ({"models": "all"}, True),
        ({"hardware": {"gpu_memory_gb": 24}}, True),
        ({"hardware": {"gpu_memory_gb": 48}}, False),
        ({"hardware": {"gpu_memory_gb": "all"}}, True),
        ({"cpu_cores": 4}, True),
        ({"positive_requirements": {"features": ["upscale"]}}, True),
        ({"positive_requirements": {"features": ["upscale", "audio"]}}, False),
        ({"customer_isolation": "strict"}, False),
        ({"hardware.gpu_model": "L4"}, True),
        ({"hardware.gpu_model": "H100"}, False),
        ({"asset_type": "video"}, False),
    ],
)
async def test_requirements(redis: Redis, requirements: dict[str, Any], *, fits: bool) -> None:
    await JobQueue(redis).submit({}, service_required="simulation", requirements=requirements)
    assert ((await claim(redis))[0] == "job") is fits


async def test_a_denied_customer_is_denied_without_asking_for_isolation(redis: Redis) -> None:
    await JobQueue(redis).submit({}, service_required="simulation", customer_id="bad")
    assert (await claim(redis))[0] == "none"


async def put(redis: Redis, job_id: str, *, priority: int = 50, **fields: str) -> None:
    """Put a job into the queue as other parties do: hash and sorted set, nothing else."""
    now = 1_700_000_000_000
    facts: dict[Any, Any] = {
        "id": job_id, "service_required": "simulation", "priority": str(priority),
        "payload": "{}", "requirements": "", "customer_id": "", "status": "pending",
        "created_at": iso(now), "retry_count": "0", "max_retries": "3",
    }  # fmt: skip
    await redis.hset(f"job:{job_id}", mapping=facts | fields)
    await redis.zadd("jobs:pending", {job_id: score(priority, now)})


@pytest.mark.parametrize("requirements", ["null", "[1]", "{", '{"hardware":{"ram_gb":"lots"}}'])
async def test_poison_is_set_aside_and_stops_nobody(redis: Redis, requirements: str) -> None:
    client = JobQueue(redis)
    await put(redis, "bad", priority=90, requirements=requirements)
    await redis.zadd("jobs:pending", {"ghost": 1e18, "text": 1e17})
    await redis.set("job:text", "no hash")
    await put(redis, "nameless", service_required="")
    await put(redis, "good", priority=1)
    assert (await claim(redis))[1] == "good"
    assert (await claim(redis))[0] == "none"
    assert set(await redis.zrange("jobs:dead", 0, -1)) == {"bad", "ghost", "text", "nameless"}
    assert await redis.hget("jobs:dead:reasons", "ghost") == "the job has no record"
    assert await redis.hget("jobs:dead:reasons", "text") == "its record is no hash"
    assert await redis.zcard("jobs:pending") == 0
    await redis.set(keys.job_progress("bad"), "no hash")
    async with contextlib.aclosing(Line(redis)) as line:
        for reader in (client, JobQueue(redis, line)):
            told = {job.id: (job.status, job.error) for job in await reader.list(status="dead")}
            assert set(told) == {"bad", "ghost", "text", "nameless"}
            assert told["text"] == ("failed", "its record is no hash")
            assert told["ghost"] == ("failed", "the job has no record")
            assert told["bad"] == ("failed", (await reader.get("bad")).error)


async def test_jobs_of_other_parties_are_found_and_keep_the_exact_order(redis: Redis) -> None:
    client = JobQueue(redis)
    await claim(redis)
    for number in range(450):
        await put(redis, f"theirs-{number:03}", created_at=iso(1_700_000_000_000 + number))
    ours = await client.submit({}, service_required="simulation", priority=50)
    urgent = await client.submit({}, service_required="simulation", priority=51)
    while (
        await call(redis, "ml1_beat", "w9", "none", 20000)
        and int(await redis.get("jobs:index:size") or 0) < 452
    ):
        continue
    got = [(await claim(redis))[1] for _ in range(452)]
    assert got == [urgent, *(f"theirs-{number:03}" for number in range(450)), ours]


async def test_what_another_party_took_or_cancelled_is_dropped(redis: Redis) -> None:
    client = JobQueue(redis)
    first, second = [await client.submit({}, service_required="simulation") for _ in range(2)]
    await redis.zrem("jobs:pending", first)
    assert (await claim(redis))[1] == second
    assert (await claim(redis))[0] == "none"
    assert await redis.keys("jobs:class:*") == []


async def test_a_hundred_classes_are_served_by_priority_and_age(redis: Redis) -> None:
    client = JobQueue(redis)
    wanted: list[tuple[int, int, str]] = []
    for number in range(100):
        priority = number * 7 % 10
        job_id = await client.submit(
            {}, service_required="simulation", priority=priority, customer_id=f"c{number % 50}",
            requirements={"features": ["upscale"], "gpu_memory_gb": number % 20},
            workflow_datetime=1_700_000_000_000 + number,
        )  # fmt: skip
        wanted.append((-priority, number, job_id))
    got = [(await claim(redis))[1] for _ in range(100)]
    assert got == [job_id for *_, job_id in sorted(wanted)]


async def test_who_wants_more_than_fits_into_a_call_loses_none(redis: Redis) -> None:
    async with contextlib.aclosing(Line(redis)) as line:
        submit = JobQueue(redis, line).submit
        await asyncio.gather(*(submit({}, service_required="simulation") for _ in range(4500)))
    assert len((await turn(redis, want=4500))[1]) == 1000
    assert await redis.zcard(keys.PENDING) == 3500
    assert await redis.hlen(keys.active("w1")) == await redis.zcard(keys.LEASES) == 1000


async def test_a_beat_counts_all_classes_only_where_the_count_is_wrong(own_valkey: Any) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await claim(redis)
        for number in range(50):
            await JobQueue(redis).submit(
                {}, service_required="simulation", customer_id=f"customer {number}"
            )
        for _ in range(40):
            await claim(redis)
        for size, counted in (("10", False), ("7", True), ("10", False)):
            await redis.set("jobs:index:size", size)
            await redis.config_resetstat()
            await call(redis, "ml1_beat", "w1", profile()[0], 20000)
            calls = (await redis.info("commandstats"))["cmdstat_zcard"]["calls"]
            assert (calls > 50) is counted
            assert await redis.get("jobs:index:size") == "10"


async def test_several_jobs_come_in_one_call_in_their_order(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = [
        await client.submit(
            {},
            service_required="simulation",
            customer_id=f"c{number % 3}",
            workflow_datetime=1_700_000_000_000 + number,
        )
        for number in range(12)
    ]
    answer = await turn(redis, want=10)
    assert [job[0] for job in answer[1]] == ids[:10]
    assert await redis.hlen("jobs:active:w1") == 10


async def test_one_that_waits_is_told_of_a_job_and_no_other(redis: Redis) -> None:
    client = JobQueue(redis)
    listener = redis.pubsub(ignore_subscribe_messages=True)
    await listener.subscribe("jobs:wake:w1", "jobs:wake:w2", "jobs:wake:w3")
    for worker in ("w1", "w2"):
        await claim(redis, worker)
    await claim(redis, "w3", job_service_required_map=["other"])
    await client.submit({}, service_required="simulation")
    assert await woken(listener) in {"jobs:wake:w1", "jobs:wake:w2"}
    assert await listener.get_message(timeout=0.05) is None
    await listener.aclose()


async def test_one_that_died_while_it_waited_is_passed_over(redis: Redis) -> None:
    client = JobQueue(redis)
    listener = redis.pubsub(ignore_subscribe_messages=True)
    await claim(redis, "dead")
    await listener.subscribe("jobs:wake:w1")
    await claim(redis, "w1")
    await client.submit({}, service_required="simulation")
    assert await woken(listener) == "jobs:wake:w1"
    await listener.aclose()


async def test_a_job_that_failed_here_goes_to_another_worker_if_there_is_one(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    await fail(redis, job_id, fence, again=True)
    _, got, fence, _ = await claim(redis)
    assert got == job_id, "nobody else is there"
    assert (await claim(redis, "w2"))[0] == "none"
    await fail(redis, job_id, fence, again=True)
    assert (await claim(redis))[0] == "none"
    assert (await claim(redis, "w2"))[1] == job_id


async def test_a_job_that_failed_goes_to_another_machine_if_there_is_one(redis: Redis) -> None:
    client = JobQueue(redis)
    machines = {"w1": "m1", "w2": "m1", "w3": "m2"}
    for worker, machine in machines.items():
        await redis.hset(f"worker:{worker}", mapping={"worker_id": worker, "machine_id": machine})
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    assert (await claim(redis, "w2"))[0] == "none"
    await fail(redis, job_id, fence, again=True)
    assert (await claim(redis, "w2"))[1] == job_id, "nobody else is there"
    fence = (await client.get(job_id)).fence
    await call(redis, "ml1_release", "w2", job_id, fence, "release", "")
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe(*(keys.wake(worker) for worker in machines))
    assert (await turn(redis, "w3", machine="m2", want=0))[1] == []
    await call(redis, "ml1_profile", "w3", *profile(), "")
    assert (await claim(redis, "w2"))[0] == "none", "another machine can do it"
    assert (await claim(redis, "w1"))[0] == "none"
    _, got, fence, _ = await claim(redis, "w3", machine="m2")
    assert got == job_id
    # Who is told of one that goes back: another machine, though others have waited for longer.
    assert (await claim(redis, "w3", machine="m2"))[0] == "none"
    await call(redis, "ml1_release", "w3", job_id, fence, "lost", "it is gone")
    assert await woken(heard) in {keys.wake("w1"), keys.wake("w2")}


async def test_a_job_for_one_worker_by_name(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit(
        {}, service_required="simulation", requirements={"worker_id": "w2"}
    )
    here = await client.submit({}, service_required="simulation", requirements={"machine_id": "m1"})
    assert (await claim(redis, "w1"))[1] == here
    assert (await claim(redis, "w1"))[0] == "none"
    assert (await claim(redis, "w2"))[1] == job_id


async def test_a_worker_kept_for_a_workflow_takes_its_jobs_alone(redis: Redis) -> None:
    client = JobQueue(redis)
    for _ in range(250):
        await client.submit({}, service_required="simulation", workflow_id="a", priority=90)
    mine = await client.submit({}, service_required="simulation", workflow_id="b")
    assert (await claim(redis, workflow_id="b"))[1] == mine
    later = await client.submit({}, service_required="simulation", workflow_id="b")
    assert (await claim(redis, workflow_id="b"))[1] == later
    assert (await claim(redis, workflow_id="b"))[0] == "none"


async def test_what_nobody_can_do_says_so_until_somebody_can(redis: Redis) -> None:
    client = JobQueue(redis)
    await claim(redis)
    job_id = await client.submit(
        {}, service_required="simulation", requirements={"gpu_memory_gb": 80}
    )
    assert (await client.get(job_id)).status == "unworkable"
    assert (await claim(redis))[0] == "none"
    answer = await turn(redis, "big", want=0, hardware={"gpu_memory_gb": 141})
    assert answer[1] == []
    assert (await claim(redis, "big", hardware={"gpu_memory_gb": 141}))[1] == job_id


async def test_what_only_the_last_capable_worker_could_do_says_so_when_it_leaves(
    redis: Redis,
) -> None:
    client = JobQueue(redis)
    big = {"gpu_memory_gb": 141}
    await claim(redis, "big", hardware=big)
    await claim(redis, "small")
    needs = {"gpu_memory_gb": 80}
    jobs = [
        await client.submit({}, service_required="simulation", requirements=needs) for _ in range(3)
    ]
    anybodys = await client.submit({}, service_required="simulation")

    async def statuses() -> set[str]:
        return {(await client.get(job_id)).status for job_id in jobs}

    assert await statuses() == {"pending"}
    await call(redis, "ml1_leave", "big", profile(hardware=big)[0])
    assert await statuses() == {"unworkable"}
    assert (await client.get(anybodys)).status == "pending"
    await call(redis, "ml1_profile", "big", *profile(hardware=big), "")
    assert await statuses() == {"pending"}
    # With nobody left it is not known what the next one can do.
    await call(redis, "ml1_leave", "small", profile()[0])
    await call(redis, "ml1_leave", "big", profile(hardware=big)[0])
    assert await statuses() == {"pending"}


async def test_a_long_queue_is_told_by_and_by_that_nobody_can_do_it(redis: Redis) -> None:
    client = JobQueue(redis)
    big = {"gpu_memory_gb": 141}
    digest, text = profile(hardware=big)
    await call(redis, "ml1_profile", "big", digest, text, "")
    await claim(redis, "small")
    needs = {"gpu_memory_gb": 80}
    first = await client.submit({}, service_required="simulation", requirements=needs)
    fields, place = await redis.hgetall(f"job:{first}"), await redis.zscore("jobs:pending", first)
    del fields["queue_class"], fields["queue_score"]
    jobs = [f"job-{number}" for number in range(2500)]
    pipeline = redis.pipeline(transaction=False)
    for job_id in jobs:
        flat = [item for pair in (fields | {"id": job_id}).items() for item in pair]
        pipeline.fcall("ml1_submit", 0, job_id, place, "{}", *flat)
    await pipeline.execute()
    await redis.delete(f"job:{first}")  # as another party may do

    async def statuses() -> list[str]:
        pipeline = redis.pipeline(transaction=False)
        for job_id in jobs:
            pipeline.hget(f"job:{job_id}", "status")
        return list(await pipeline.execute())

    async def told(status: str) -> int:
        """In how many calls a worker with nothing to do tells the rest."""
        calls = 0
        while (await call(redis, "ml1_turn", "small", "m1", profile()[0], "", 20000, 1))[2]:
            calls += 1
        assert set(await statuses()) == {status}
        return calls

    await call(redis, "ml1_leave", "big", digest)
    assert 0 < (await statuses()).count("unworkable") < 500
    assert 5 < await told("unworkable") < 20
    await call(redis, "ml1_profile", "big", digest, text, "")
    assert 5 < await told("pending") < 20
    assert not await redis.exists(f"job:{first}", "jobs:telling")


async def test_what_only_a_worker_could_do_that_fell_silent_says_so(redis: Redis) -> None:
    client = JobQueue(redis)
    big = {"gpu_memory_gb": 141}
    await claim(redis, "big", hardware=big)
    await claim(redis, "small")
    needs = {"gpu_memory_gb": 80}
    job = await client.submit({}, service_required="simulation", requirements=needs)
    digest, mine = profile(hardware=big)[0], profile()[0]
    for silent, status in ((1.5, "pending"), (2.5, "unworkable")):
        await redis.zadd("jobs:profiles:used", {digest: minutes_ago(silent)})
        await call(redis, "ml1_beat", "small", mine, 20000)
        assert (await client.get(job)).status == status
    await call(redis, "ml1_profile", "big", *profile(hardware=big), "")
    assert (await client.get(job)).status == "pending"


async def test_who_comes_late_is_told_what_happened(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    await call(redis, "ml1_progress", "w1", job_id, fence, 40, "sampling", "2", 5)
    await fail(redis, job_id, fence, again=True)
    _, _, fence, _ = await claim(redis, "w2")
    before = time.time() * 1000
    await complete(redis, job_id, fence, "w2")
    told = [event async for event in client.watch(job_id, replay=True)]
    *steps, end = told
    assert [(event.kind, event.percent, event.message, event.worker_id) for event in steps] == [
        ("claimed", 0, "", "w1"), ("progress", 40, "sampling", "w1"),
        ("retrying", 0, "it broke", "w1"), ("claimed", 0, "", "w2"),
    ]  # fmt: skip
    assert (end.kind, end.percent, end.worker_id) == ("completed", 100, "w2")
    assert "broke" not in end.message  # an earlier run did
    assert all(before - 20_000 < event.at <= before for event in steps)
    assert [event.kind async for event in client.watch(job_id)] == ["completed"]


async def test_of_a_run_that_is_over_at_once_its_record_tells(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    await complete(redis, job_id, fence)
    assert not await redis.exists(keys.progress_stream(job_id))
    claimed, end = [event async for event in client.watch(job_id, replay=True)]
    assert (claimed.kind, claimed.worker_id) == ("claimed", "w1")
    assert end.job is not None
    assert end.kind == "completed"
    assert claimed.at == end.job.assigned_ms > 0


async def test_a_place_that_was_true_once_does_not_put_a_class_first(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = [
        await client.submit({}, service_required="simulation", priority=priority)
        for priority in (90, 20)
    ]
    assert (await claim(redis))[1] == ids[0]  # alone: nobody corrects what is known of the next
    between = await client.submit(
        {}, service_required="simulation", priority=50, customer_id="somebody"
    )
    assert [(await claim(redis))[1] for _ in range(2)] == [between, ids[1]]
    assert (await claim(redis))[0] == "none"


async def test_an_end_that_nobody_tells_is_found_on_a_busy_server_too(redis: Redis) -> None:
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    kinds = []

    async def others() -> None:
        while True:
            await redis.publish(keys.PROGRESS_CHANNEL, json.dumps({"job_id": "x", "progress": 1}))
            await asyncio.sleep(0.1)  # sleep: how often others tell something

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        telling = group.create_task(others())
        async for event in JobQueue(redis).watch(job_id):
            kinds.append((event.kind, event.step))
            if event.kind == "submitted":
                # Another party's words for a step, and an end without any.
                odd = {"job_id": job_id, "progress": "10", "current_step": "KSampler"}
                await redis.publish(keys.PROGRESS_CHANNEL, json.dumps(odd))
                await redis.hset(keys.job(job_id), "status", "completed")
        await end_tasks(telling)  # the client may swallow being cancelled once
    assert kinds == [("submitted", 0), ("progress", 0), ("completed", 0)]


async def test_a_drained_machine_is_given_nothing_until_it_is_undrained(redis: Redis) -> None:
    client = JobQueue(redis)
    await redis.hset("worker:w1", mapping={"worker_id": "w1", "machine_id": "m1"})
    await redis.sadd("workers:active", "w1")
    running = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe(keys.wake("w1"))
    assert await client.drain("m1") == 1
    waiting = await client.submit({}, service_required="simulation")
    assert (await turn(redis))[1:3] == [[], "drained"]
    assert await complete(redis, running, fence) == "ok"  # what runs there ends
    (fit,) = (await client.why(waiting)).fits
    assert (fit.workers, fit.lacks) == (("w1",), ("its machine m1 is drained",))
    assert 0 < await redis.ttl(keys.machine_drained("m1")) <= 604800
    hubs = json.dumps(CAPS | {"machine_id": "m1"})
    assert await redis.execute_command("FCALL", "findMatchingJob", 0, hubs, 100) is None
    assert await client.undrain("m1") == 1
    assert await woken(heard) == keys.wake("w1")
    assert (await claim(redis))[1] == waiting
    assert await client.drain("not up yet") == 0
    assert await redis.exists(keys.machine_drained("not up yet"))


async def test_a_stale_fence_writes_nothing(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    _, _, old, _ = await claim(redis)
    await call(redis, "ml1_release", "w1", job_id, old, "release", "")
    _, _, new, _ = await claim(redis)
    assert new == old + 1
    assert await complete(redis, job_id, old) == "lost"
    assert await call(redis, "ml1_progress", "w1", job_id, old, 50, "", "", 0) == "lost"
    assert (await client.get(job_id)).status == "assigned"
    assert await complete(redis, job_id, new) == "ok"
    assert await complete(redis, job_id, new) == "ok", "a repeated completion is no error"
    assert (await client.get(job_id)).result == json.loads(RESULT)


async def test_a_retry_keeps_its_place_and_the_last_failure_is_told_once(redis: Redis) -> None:
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe("job_failed")
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation", workflow_id="wf", total_steps=2)
    place = await redis.zscore("jobs:pending", job_id)
    for turn in ("retrying", "retrying", "failed"):
        _, _, fence, _ = await claim(redis)
        assert await fail(redis, job_id, fence, again=True) == turn
        if turn == "retrying":
            assert await redis.zscore("jobs:pending", job_id) == place
    message = await heard_message(heard)
    assert message["can_retry"] is False
    assert message["workflow_id"] == "wf"
    assert await heard.get_message(timeout=0.05) is None
    await heard.aclose()
    assert 0 < await redis.ttl(f"worker:failure:step-id:{job_id}:permanent") <= 604800
    assert 0 < await redis.ttl(f"worker:completion:step-id:{job_id}") <= 604800
    assert 0 < await redis.ttl("workflow:failure:wf:permanent") <= 604800


async def test_an_error_that_cannot_heal_is_not_tried_again(redis: Redis) -> None:
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    assert await fail(redis, job_id, fence, again=False) == "failed"


async def test_a_delayed_retry_tells_when_it_is_due(redis: Redis) -> None:
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    assert await fail(redis, job_id, fence, again=True, wait=60_000) == "retrying"
    kind, due = await claim(redis)
    assert kind == "none"
    assert 0 < due <= 60_000


async def test_a_release_uses_no_attempt_and_keeps_the_place(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    place = await redis.zscore("jobs:pending", job_id)
    _, _, fence, _ = await claim(redis)
    assert await call(redis, "ml1_release", "w1", job_id, fence, "release", "drain") == "released"
    assert await redis.zscore("jobs:pending", job_id) == place
    assert (await client.get(job_id)).retry_count == 0


async def test_the_jobs_of_a_successor_are_left_to_it(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    await redis.hset(keys.worker("w1"), "connected_at", "when the successor came")
    await claim(redis)
    # As it arrives late, from a server that was frozen when the first one died.
    assert await call(redis, "ml1_recover", "w1", "it died", "when the first one came") == []
    assert (await client.get(job_id)).status == "assigned"
    assert await client.release_worker("w1", "it died") == (job_id,)


async def test_a_death_that_redis_hears_of_too_late_is_not_told(own_valkey: Any) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        client = JobQueue(redis)
        await client.submit({}, service_required="simulation")
        await claim(redis)
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                await client.release_worker("w1", "it died")
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)
        assert await redis.hlen(keys.active("w1")) == 1


async def test_three_crashes_make_a_job_dead(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    for _ in range(3):
        await claim(redis)
        assert await client.release_worker("w1", "killed") == (job_id,)
    assert await redis.zscore("jobs:dead", job_id)
    assert "poison" in (await client.get(job_id)).error
    await client.retry(job_id)
    assert (await claim(redis))[1] == job_id


async def test_a_silent_worker_loses_its_job_at_anybodys_beat(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    await claim(redis)
    await redis.zadd("jobs:leases", {job_id: 1})
    await call(redis, "ml1_beat", "w2", "none", 20000)
    assert (await client.get(job_id)).status == "pending"
    assert await redis.hlen("jobs:active:w1") == 0


async def test_a_worker_that_lives_and_has_a_job_no_more_did_not_crash(redis: Redis) -> None:
    """As where the server that follows another one forgot how the job ended."""
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation")
    for number in range(5):
        assert (await client.get(job_id)).status == "pending"
        assert (await claim(redis, f"w{number}"))[1] == job_id
        await call(redis, "ml1_beat", f"w{number}", "none", 20000)  # and does not name it
        await redis.zadd(keys.LEASES, {job_id: 1})
        await call(redis, "ml1_beat", "other", "none", 20000)
    record = await client.get(job_id)
    assert (record.status, record.fields.get("crashes")) == ("failed", None), "it comes to an end"
    assert "its worker lives, and has it no more" in record.error


@pytest.mark.parametrize("leases", [0.6, 10])
async def test_a_queue_that_was_away_itself_takes_nobodys_job_at_once(
    redis: Redis, leases: float
) -> None:
    client, lease = JobQueue(redis), 500
    job_id = await client.submit({}, service_required="simulation")
    await claim(redis)
    await call(redis, "ml1_beat", "w2", "none", lease)
    # Nobody was heard of for a while, and what is held has ended meanwhile.
    await redis.decrby("jobs:heard", int(leases * lease))
    await redis.zadd(keys.LEASES, {job_id: 1})
    await call(redis, "ml1_beat", "w2", "none", lease)
    assert (await client.get(job_id)).status == "assigned"
    async with asyncio.timeout(PATIENCE):
        while (await client.get(job_id)).status == "assigned":
            await call(redis, "ml1_beat", "w2", "none", lease)
    assert (await client.get(job_id)).status == "pending"


async def test_a_clock_that_is_set_back_makes_nobody_wait_for_it(redis: Redis) -> None:
    client = JobQueue(redis)
    running = await client.submit({}, service_required="simulation")
    await claim(redis, "w2")
    waiting = await client.submit({}, service_required="simulation")
    _, job_id, fence, _ = await claim(redis)
    assert await fail(redis, job_id, fence, again=True, wait=20000) == "retrying"
    hour = 3_600_000
    await call(redis, "ml1_beat", "w3", "none", 20000)
    # It is an hour earlier than it was.
    await redis.incrby("jobs:heard", hour)
    await redis.zincrby(keys.LEASES, hour, running)
    await redis.zincrby("jobs:delayed", hour, waiting)
    await call(redis, "ml1_beat", "w3", "none", 20000)
    now = time.time() * 1000
    for name, job in ((keys.LEASES, running), ("jobs:delayed", waiting)):
        place = await redis.zscore(name, job)
        assert place is not None
        assert now < place + hour / 2 < now + hour


async def test_cancel_waiting_and_running(redis: Redis) -> None:
    client = JobQueue(redis)
    waiting = await client.submit({}, service_required="simulation")
    assert await client.cancel(waiting) == "cancelled"
    with pytest.raises(JobStateRefuses):
        await client.cancel(waiting)
    with pytest.raises(JobNotFound):
        await client.cancel("nobody")
    running = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    assert await client.cancel(running) == "cancelling"
    assert await call(redis, "ml1_progress", "w1", running, fence, 10, "", "", 0) == "cancel"
    assert await call(redis, "ml1_cancelled", "w1", running, fence) == "cancelled"
    assert (await client.get(running)).status == "cancelled"


async def test_a_result_that_comes_after_cancelling_is_dropped(redis: Redis) -> None:
    client = JobQueue(redis)
    await redis.hset("worker:w1", "worker_id", "w1")
    job_id = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    assert await client.cancel(job_id, "not wanted") == "cancelling"
    await redis.set(keys.output(job_id, 0), "a picture", ex=60)
    assert await complete(redis, job_id, fence) == "cancelled"
    record = await client.get(job_id)
    assert (record.status, record.error, record.result) == ("cancelled", "not wanted", None)
    assert await complete(redis, job_id, fence) == "lost"
    counts = await client.counts()
    assert (counts["active"], counts["completed"], counts["failed"]) == (0, 0, 1)
    assert await redis.keys(f"job:{job_id}:output:*") == []
    facts = await redis.hmget("worker:w1", "status", "current_job_id")
    assert facts == ["idle", ""]


async def test_everything_that_ended_will_be_forgotten(redis: Redis) -> None:
    client = JobQueue(redis)
    done = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    await call(redis, "ml1_progress", "w1", done, fence, 10, "", "", 0)
    await complete(redis, done, fence)
    failed = await client.submit({}, service_required="simulation")
    _, _, fence, _ = await claim(redis)
    await fail(redis, failed, fence, again=False)
    await call(redis, "ml1_beat", "w1", profile()[0], 20000)
    lasting = [key for key in await redis.keys("*") if await redis.ttl(key) == -1]
    assert lasting == []


def minutes_ago(minutes: float) -> int:
    return int((time.time() - minutes * 60) * 1000)


async def test_no_more_than_a_number_of_ended_jobs_is_kept(redis: Redis) -> None:
    old, others = [], 10_000
    for place in range(3):  # one completed, one failed for good, one to be tried again
        await JobQueue(redis).submit({"number": place}, service_required="simulation")
        _, job_id, fence, _ = await claim(redis)
        await redis.set(keys.output(job_id, 1), b"picture")
        if place:
            await fail(redis, job_id, fence, again=False)
        else:
            await complete(redis, job_id, fence)
        old.append(job_id)
    await call(redis, "ml1_retry", old[2])
    for name, ended in ((keys.COMPLETED, [old[0]]), (keys.FAILED, old[1:])):
        crowd = {f"x{number}": 1_900_000_000_000 for number in range(others)}
        await redis.zadd(f"{name}:at", {**crowd, **dict.fromkeys(ended, minutes_ago(6))})
    _, job_id, fence, _ = await claim(redis)
    assert job_id == old[2]
    await fail(redis, job_id, fence, again=False)
    await call(redis, "ml1_beat", "w1", profile()[0], 20000)

    assert await redis.exists(keys.job(old[0]), keys.output(old[0], 1)) == 0
    assert await redis.keys(f"*{old[0]}*") == []
    assert await redis.hget(keys.COMPLETED, old[0]) is None
    assert await redis.zcard(f"{keys.COMPLETED}:at") == others
    assert await redis.exists(keys.job(old[1])) == 0
    assert await redis.hget(keys.job(old[2]), "status") == "failed"
    assert await redis.zcard(f"{keys.FAILED}:at") == others + 1  # it ended a moment ago


async def test_what_ends_is_forgotten_as_fast_as_it_comes(redis: Redis) -> None:
    async with contextlib.aclosing(Line(redis)) as line:
        client, functions, rounds = JobQueue(redis, line), QueueFunctions(redis), 120
        await redis.zadd(
            f"{keys.COMPLETED}:at", {f"x{number}": minutes_ago(6) for number in range(20_000)}
        )
        await asyncio.gather(
            *(client.submit({}, service_required="simulation") for _ in range(32 * rounds))
        )
    for _ in range(rounds):
        words: list[Any] = []
        for job_id, fence, _ in (await turn(redis, want=32))[1]:
            words += [job_id, fence, RESULT, "{}", f"worker:completion:{job_id}", 5, "simulation"]
        await functions.call("ml1_turn", "w1", "m1", "", "0t", 20000, 0, *words)
    assert await redis.hlen(keys.COMPLETED) == 32 * rounds
    # About one call of eight does it, for all eight: 3,840 came, and more than that should be gone.
    assert await redis.zcard(f"{keys.COMPLETED}:at") < 22_000


async def test_one_that_is_set_aside_is_kept_beyond_that_number(redis: Redis) -> None:
    job_id = await JobQueue(redis).submit({}, service_required="simulation")
    for _ in range(3):
        await claim(redis)
        await JobQueue(redis).release_worker("w1", "killed")
    assert await redis.zscore(keys.DEAD, job_id)
    crowd = {f"x{number}": 1_900_000_000_000 for number in range(10_000)}
    await redis.zadd(f"{keys.FAILED}:at", {**crowd, job_id: minutes_ago(6)})
    await JobQueue(redis).submit({}, service_required="simulation")
    _, other, fence, _ = await claim(redis)
    await fail(redis, other, fence, again=False)
    assert await redis.hget(keys.FAILED, job_id) is None
    assert (await call(redis, "ml1_retry", job_id)) in (b"ok", "ok")


async def test_the_functions_come_back_after_somebody_flushed_them(redis: Redis) -> None:
    client = JobQueue(redis)
    await client.submit({}, service_required="simulation")
    await redis.execute_command("FUNCTION FLUSH")
    await client.submit({}, service_required="simulation")
    assert (await client.counts())["pending"] == 2


async def test_why_names_each_requirement_that_each_worker_lacks(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit(
        {}, service_required="simulation", customer_id="bad",
        requirements={
            "gpu_memory_gb": 48, "models": ["flux"], "features": ["upscale"],
            "negative_requirements": {"features": ["video"]},
        },
    )  # fmt: skip
    assert (await client.why(job_id)).words == ("no worker is alive",)
    await claim(redis, "w1")
    await claim(redis, "w2")
    await claim(redis, "w3", job_service_required_map=["other"], features=[])
    found = await client.why(job_id)
    lacks = {fit.workers: fit.lacks for fit in found.fits}
    assert lacks[("w1", "w2")] == (
        'features must not be ["video"]', "gpu_memory_gb must be 48", 'models must be ["flux"]',
        "takes no jobs of customer bad",
    )  # fmt: skip
    assert "serves no simulation" in lacks[("w3",)]
    assert found.words[0] == "0 of 3 living workers can run it"
    await client.cancel(job_id)
    assert (await client.why(job_id)).words == ("it is cancelled",)
    with pytest.raises(JobNotFound):
        await client.why("nobody")


async def test_the_story_of_a_job_is_kept_to_its_end(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation", max_retries=2)
    _, _, fence, _ = await claim(redis)
    await call(redis, "ml1_release", "w1", job_id, fence, "lost", "the service forgot it")
    _, _, fence, _ = await claim(redis)
    await fail(redis, job_id, fence, again=True)
    _, _, fence, _ = await claim(redis)
    assert await fail(redis, job_id, fence, again=True) == "failed"
    story = json.loads((await client.get(job_id)).fields["history"])
    assert [(entry["event"], entry["error"]) for entry in story] == [
        ("lost", "the service forgot it"), ("transient", "it broke"), ("transient", "it broke"),
    ]  # fmt: skip


async def test_what_a_service_loses_costs_no_try_until_it_is_too_often(redis: Redis) -> None:
    client = JobQueue(redis)
    job_id = await client.submit({}, service_required="simulation", max_retries=1)
    for turn_number in range(5):
        _, _, fence, _ = await claim(redis)
        said = await call(redis, "ml1_release", "w1", job_id, fence, "lost", "forgotten")
        assert said == ("released" if turn_number < 4 else "dead")
    assert "poison" in (await client.get(job_id)).error


async def test_a_key_submits_a_job_once(redis: Redis) -> None:
    client = JobQueue(redis)
    first = await client.submit({}, service_required="simulation", idempotency_key="order 7")
    again = await client.submit({}, service_required="simulation", idempotency_key="order 7")
    other = await client.submit({}, service_required="simulation", idempotency_key="order 8")
    assert first == again != other
    assert (await client.counts())["pending"] == 2


async def test_a_key_or_an_id_of_another_job_is_refused(redis: Redis) -> None:
    client = JobQueue(redis)

    async def ask(numbers: Any, service: str = "simulation", **requirements: Any) -> str:
        return await client.submit(
            {"a": numbers}, service_required=service, requirements=requirements,
            idempotency_key="order 7",
        )  # fmt: skip

    first = await ask((1, 2))
    assert await ask([1, 2]) == first
    for other in (ask([1, 3]), ask([1, 2], "upscale"), ask([1, 2], gpu_memory_gb=24)):
        with pytest.raises(JobIdTaken, match="asks for something else"):
            await other
    # The progress of a job stands under a name that is no job's.
    await redis.hset(keys.job_progress(first), "progress", "50")
    # So do its files.
    await redis.set(keys.output(first, 0), "a picture")
    for taken in ("progress", "output:0"):
        with pytest.raises(JobIdTaken):
            await client.submit({}, service_required="simulation", job_id=f"{first}:{taken}")
    assert (await client.counts())["pending"] == 1


async def test_a_worker_of_the_hub_claims_by_the_hubs_function(redis: Redis) -> None:
    client = JobQueue(redis)
    for _ in range(120):
        await client.submit({}, service_required="other", priority=90)
    mine = await client.submit({"text": "x"}, service_required="simulation", customer_id="c")
    await put(redis, "theirs", priority=1)
    execute: Any = redis.execute_command

    async def find() -> Any:
        answer = await execute("FCALL", "findMatchingJob", 0, json.dumps(CAPS), 100)
        return answer and json.loads(answer)

    found = await find()
    assert found["jobId"] == mine
    assert (found["job"]["status"], found["job"]["customer_id"]) == ("pending", "c")
    assert (await client.get(mine)).worker_id == "w1"
    assert await redis.hexists("jobs:active:w1", mine)
    assert await redis.zscore("jobs:leases", mine) is None, "it renews no lease"
    assert (await find())["jobId"] == "theirs"
    assert await find() is None
    # It hears of no cancelling, so that nobody waits for its word.
    assert await client.cancel("theirs") == "cancelled"
    assert (await client.get("theirs")).status == "cancelled"
    assert not await redis.hexists("jobs:active:w1", "theirs")


async def test_the_hubs_own_function_takes_the_place_of_ours_and_stays(redis: Redis) -> None:
    code = (
        "#!lua name=jobMatching\n"
        "redis.register_function('findMatchingJob', function() return 'the hub' end)"
    )
    execute: Any = redis.execute_command
    await QueueFunctions(redis).ensure()
    await execute("FUNCTION LOAD", "REPLACE", code)
    await QueueFunctions(redis).ensure()
    assert await execute("FCALL", "findMatchingJob", 0, "{}", 100) == "the hub"
    await execute("FUNCTION FLUSH")


async def test_those_that_failed_do_not_hide_those_that_were_cancelled(redis: Redis) -> None:
    client = JobQueue(redis)
    wanted = [await client.submit({}, service_required="simulation") for _ in range(3)]
    for job_id in wanted:
        await client.cancel(job_id)
    failed = [await client.submit({}, service_required="simulation") for _ in range(5)]
    for _ in failed:
        _, job_id, fence, _ = await claim(redis)
        await fail(redis, job_id, fence, again=False)
    for status, ids in (("cancelled", wanted), ("failed", failed)):
        some = await client.list(status=status, limit=2)
        assert {record.status for record in some} == {status}
        assert len(some) == 2
        assert {record.id for record in await client.list(status=status)} == set(ids)


async def test_listing_shows_each_kind(redis: Redis) -> None:
    client = JobQueue(redis)
    ids = [await client.submit({}, service_required="simulation") for _ in range(3)]
    _, first, fence, _ = await claim(redis)
    await complete(redis, first, fence)
    _, second, _, _ = await claim(redis)
    assert {record.id for record in await client.list()} == set(ids)
    assert [record.id for record in await client.list(status="active")] == [second]
    assert [record.id for record in await client.list(status="completed")] == [first]
    counts = await client.counts()
    assert (counts["pending"], counts["active"], counts["completed"]) == (1, 1, 1)

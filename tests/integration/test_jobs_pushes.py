"""A job that comes while a worker waits goes to it with the call that submits it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.system import redis_keys as keys
from tests.integration.test_jobs_queue import RESULT, call, claim, fail, profile
from tests.support.front import Front
from tests.support.patience import PATIENCE
from tests.support.workers import Orchestrator, Workers, end_of, registered, through

LEASE = 20000
HOUR = 3_600_000


@attrs.define
class Waiter:
    """Speaks as a worker does, step by step."""

    redis: Redis
    name: str = "w1"
    machine: str = "m1"
    heard: int = 0
    listener: Any = None
    tokens: int = 0

    async def listen(self) -> None:
        self.listener = self.redis.pubsub(ignore_subscribe_messages=True)
        await self.listener.subscribe(keys.wake(self.name))
        await self.listener.get_message(timeout=PATIENCE)

    async def register(self) -> None:
        facts = ("worker_id", self.name, "machine_id", self.machine, "status", "idle")
        await call(self.redis, "ml1_register", self.name, len(facts), *facts)

    async def turn(self, want: int = 1, *result: Any, lease: int = LEASE, **extra: Any) -> Any:
        digest, text = profile(**extra) if want else ("", "")
        self.tokens += 1
        words = (self.name, self.machine, digest, f"0{self.name}-{self.tokens}", lease, want)
        answer = await call(self.redis, "ml1_turn", *words, *result, self.heard)
        if answer[2] == "profile":
            await call(self.redis, "ml1_profile", self.name, digest, text, "")
            answer = await call(self.redis, "ml1_turn", *words, *result, self.heard)
        return answer

    async def beat(self, *running: Any) -> Any:
        words = (self.name, profile()[0], LEASE, *running)
        return await call(self.redis, "ml1_beat", *words, self.heard)

    async def pushed(self) -> tuple[int, int, str, dict[str, str]]:
        """The next job that is pushed: number, fence, id and fields."""
        async with asyncio.timeout(PATIENCE):
            async for message in self.listener.listen():
                if "\n" in message["data"]:
                    head, _, record = message["data"].partition("\n")
                    number, fence, _, job_id = head.split(" ", 3)
                    return int(number), int(fence), json.loads(job_id), json.loads(record)
        raise AssertionError("the subscription ended")

    async def hinted(self) -> None:
        """Return when the next thing it is told is a hint."""
        async with asyncio.timeout(PATIENCE):
            async for message in self.listener.listen():
                assert "\n" not in message["data"]
                return

    async def asked(self) -> None:
        """Return when it is asked for a beat."""
        async with asyncio.timeout(PATIENCE):
            async for message in self.listener.listen():
                if message["data"] == "?\n":
                    return

    def result(self, job_id: str) -> tuple[Any, ...]:
        return (job_id, 1, RESULT, "{}", f"worker:completion:{job_id}", 5, "simulation")


@pytest_asyncio.fixture
async def waiter(redis: Redis) -> AsyncIterator[Waiter]:
    found = Waiter(redis)
    await found.listen()
    await found.register()
    yield found
    await found.listener.aclose()


async def submit(redis: Redis, job_id: str, **facts: Any) -> str:
    """Its status, the moment that it was submitted."""
    facts = {"service_required": "simulation", **facts}
    payload = facts.pop("payload", {"a": 1})
    await JobQueue(redis).submit(payload, job_id=job_id, **facts)
    return str(await redis.hget(keys.job(job_id), "status"))


async def a_while_later(redis: Redis, *ids: str) -> None:
    """The leases of these end, and another worker beats."""
    for name in {str(await redis.hget(keys.job(job_id), "worker_id")) for job_id in ids}:
        with contextlib.suppress(ResponseError):  # something else stands there
            if await redis.hexists(keys.worker(name), "named_until"):
                await redis.hincrby(keys.worker(name), "named_until", -HOUR)
    for job_id in ids:
        if await redis.zscore(keys.LEASES, job_id):
            await redis.zincrby(keys.LEASES, -HOUR, job_id)
    await call(redis, "ml1_beat", "w2", "none", LEASE)


async def left_of_lease(redis: Redis, job_id: str) -> float:
    """Seconds."""
    seconds, microseconds = await redis.time()
    ends = await redis.zscore(keys.LEASES, job_id)
    assert ends is not None
    return float(ends) / 1000 - seconds - microseconds / 1_000_000


async def given_up(redis: Redis, whom: str, *ids: str) -> None:
    """The worker is given up by another one's beat, or by its own successor."""
    if whom == "the reaper":
        for _ in range(2):  # it asks first, or gives what began the rest of its lease
            await a_while_later(redis, *ids)
    else:
        assert set(await call(redis, "ml1_recover", "w1", "it was killed")) == set(ids)


async def waits(redis: Redis, worker: str = "w-1", *, ready: bool = True) -> None:
    """Return when the queue knows that a worker waits, or that it does not."""
    async with asyncio.timeout(PATIENCE):
        while bool(await redis.hget(keys.worker(worker), "waits")) != ready:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def has_room(redis: Redis, worker: str = "w-1") -> None:
    """Return when the queue may push a job to a worker."""
    async with asyncio.timeout(PATIENCE):
        while True:
            words = str(await redis.hget(keys.worker(worker), "waits") or "").split()
            if words and words[1] != "0":
                return
            await asyncio.sleep(0.01)  # sleep: between two looks


async def waits_in_order(redis: Redis, waiter: Waiter, *ids: str) -> bool:
    """Whether these wait as ever, and a claim finds them."""
    await waiter.hinted()
    waiting = set(await redis.zrange(keys.PENDING, 0, -1)) == set(ids)
    return waiting and [(await claim(redis))[1] for _ in ids] == list(ids)


async def test_a_waiting_worker_has_the_job_when_it_is_submitted(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn()
    heard = redis.pubsub(ignore_subscribe_messages=True)
    await heard.subscribe(keys.SUBMITTED, keys.CLAIMED)
    for _ in range(2):
        await heard.get_message(timeout=PATIENCE)
    assert await submit(redis, "one") == "assigned"
    number, fence, job_id, fields = await waiter.pushed()
    assert (number, fence, job_id, fields["payload"]) == (1, 1, "one", '{"a": 1}')
    told = [await heard.get_message(timeout=PATIENCE) for _ in range(2)]
    assert [message["channel"] for message in told] == [keys.SUBMITTED, keys.CLAIMED]
    await heard.aclose()
    record = await redis.hgetall(keys.job("one"))
    assert (record["worker_id"], record["fence"]) == ("w1", "1")
    assert set(await redis.hgetall(keys.active("w1"))) == {"one"}
    assert await redis.zcard(keys.PENDING) == 0
    at = (await redis.time())[0] * 1000
    lease = await redis.zscore(keys.LEASES, "one")
    assert lease
    assert at < lease <= at + LEASE + 1000
    state = await redis.hmget(keys.worker("w1"), "status", "current_job_id")
    assert state == ["busy", "one"]
    waiter.heard = 1
    assert (await waiter.turn(1, *waiter.result("one")))[0] == ["ok"]
    assert (await JobQueue(redis).get("one")).status == "completed"
    assert await submit(redis, "two") == "assigned"


async def test_it_is_given_no_more_than_it_has_room_for(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(2)
    states = [await submit(redis, f"job-{number}") for number in range(3)]
    assert states == ["assigned", "assigned", "pending"]


async def test_its_record_holds_what_that_of_any_job_does(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await submit(redis, "pushed")
    await submit(redis, "waits")
    pushed, waits = [await redis.hgetall(keys.job(name)) for name in ("pushed", "waits")]
    of_the_run = {"worker_id", "assigned_at", "fence", "pushed"}
    assert pushed.keys() - of_the_run == waits.keys()
    assert pushed["queue_class"] == waits["queue_class"]
    assert float(pushed["queue_score"]) >= float(waits["queue_score"]) > 0


async def test_what_is_on_its_way_takes_room_of_the_next_call(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await submit(redis, "two")
    answers, jobs, state, _ = await waiter.turn(1)  # it left before "one" was heard of
    assert (answers, jobs, state) == ([], [], "pushed")
    assert (await waiter.turn(2))[1][0][0] == "two"
    waiter.heard = 1
    await submit(redis, "three")
    assert (await waiter.turn(1))[1][0][0] == "three"


async def test_workers_take_turns(redis: Redis, waiter: Waiter) -> None:
    other = Waiter(redis, "w2", "m2")
    await other.listen()
    await other.register()
    await waiter.turn(2)
    await other.turn(2)
    for number in range(4):
        await submit(redis, f"job-{number}")
    of = [await redis.hget(keys.job(f"job-{number}"), "worker_id") for number in range(4)]
    assert of == ["w1", "w2", "w1", "w2"]
    await other.listener.aclose()


async def others(redis: Redis, *names: str, **extra: Any) -> list[Waiter]:
    """Further workers, each on a machine of its own, which begin to wait in this order."""
    found = []
    for name in names:
        other = Waiter(redis, name, f"machine of {name}")
        await other.listen()
        await other.register()
        await other.turn(1, **extra)
        await waited_longer(redis)
        found.append(other)
    return found


async def waited_longer(redis: Redis) -> None:
    """A second goes by for all who wait."""
    async for idle in redis.scan_iter("jobs:idle:*"):
        for worker in await redis.zrange(idle, 0, -1):
            await redis.zincrby(idle, -1000, str(worker))


async def hang_up(*waiters: Waiter) -> None:
    for each in waiters:
        await each.listener.aclose()


async def test_whoever_has_waited_longest_goes_first_whatever_else_it_can_do(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await waited_longer(redis)
    able, also = {"hardware": {"ram_gb": 8}}, {"hardware": {"ram_gb": 16}}
    found = [
        *await others(redis, "w2", **able),
        *await others(redis, "w3", **also),
        *await others(redis, "w4"),
        *await others(redis, "w5", **able),
    ]
    for number in range(1, 6):
        await submit(redis, f"job-{number}")
    of = [await redis.hget(keys.job(f"job-{number}"), "worker_id") for number in range(1, 6)]
    assert of == ["w1", "w2", "w3", "w4", "w5"]
    await hang_up(*found)


async def test_jobs_that_only_others_can_do_hold_up_nobody(redis: Redis, waiter: Waiter) -> None:
    digest = await able_of_two(redis)
    await waiter.turn(1)
    await redis.zadd(f"jobs:heads:{digest}", {"a class": 1})
    assert await submit(redis, "one") == "assigned"
    assert await redis.hget(keys.job("one"), "worker_id") == "w1"


async def able_of_two(redis: Redis) -> str:
    """Another worker waits, which can do more; its profile."""
    services = {"job_service_required_map": ["simulation", "another"]}
    (other,) = await others(redis, "w2", **services)
    await hang_up(other)
    return profile(**services)[0]


@pytest.mark.parametrize("why", ["drained", "barred", "registered anew", "not heard of"])
async def test_one_that_has_to_be_asked_keeps_no_job_from_the_next_one(
    redis: Redis, waiter: Waiter, why: str
) -> None:
    await waiter.turn(1, lease=1 if why == "not heard of" else LEASE)
    found = await others(redis, "w2")
    match why:
        case "drained":
            await call(redis, "ml1_drain", "m1", 1)
        case "barred":
            await redis.sadd("jobs:barred:worker:w1", "a class")
        case "registered anew":
            await waiter.register()
            await redis.zadd(f"jobs:idle:{profile()[0]}", {"w1": 1})
    assert await submit(redis, "one") == "assigned"
    assert await redis.hget(keys.job("one"), "worker_id") == "w2"
    await hang_up(*found)


async def test_not_all_who_wait_are_tried(redis: Redis, waiter: Waiter) -> None:
    found = await others(redis, *(f"w{number}" for number in range(2, 11)))
    for each in found[:8]:
        await redis.sadd(f"jobs:barred:worker:{each.name}", "a class")
    assert await submit(redis, "one") == "pending"
    await redis.delete("jobs:barred:worker:w9")
    assert await submit(redis, "two") == "pending", "the first goes before it"
    await hang_up(*found)


async def test_who_waits_no_more_is_given_nothing(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await waiter.turn(0)
    assert await submit(redis, "one") == "pending"
    assert (await claim(redis))[1] == "one"


async def test_who_can_do_less_now_is_given_only_that(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await waiter.turn(1, job_service_required_map=["other"])
    assert await submit(redis, "one") == "pending"
    assert await submit(redis, "two", service_required="other") == "assigned"


async def test_a_job_is_not_pushed_past_others(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await redis.hset("job:theirs", mapping={"id": "theirs", "service_required": "simulation"})
    await redis.zadd(keys.PENDING, {"theirs": 1})
    assert await call(redis, "ml1_adopt", "theirs") == 1
    await waiter.hinted()
    assert await submit(redis, "late") == "pending"
    assert [(await waiter.turn(1))[1][0][0] for _ in range(2)] == ["theirs", "late"]


@pytest.mark.parametrize("order", ["drained", "for one", "delayed"])
async def test_where_there_is_more_to_look_at_the_worker_asks(
    redis: Redis, waiter: Waiter, order: str
) -> None:
    if order == "delayed":
        await submit(redis, "failed")
        found = await claim(redis)
        await fail(redis, "failed", found[2], again=True, wait=60_000)
    await waiter.turn(1)
    if order == "drained":
        await call(redis, "ml1_drain", "m1", 1)
        await waiter.hinted()
    facts = {"requirements": {"worker_id": "w1"}} if order == "for one" else {}
    assert await submit(redis, "one", **facts) == "pending"
    await waiter.hinted()
    if order == "drained":
        assert (await waiter.turn(1))[2] == "drained"
    else:
        assert (await waiter.turn(1))[1][0][0] == "one"


async def test_a_worker_that_was_not_heard_of_is_asked(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1, lease=1)
    await asyncio.sleep(0.01)  # sleep: for longer than its lease
    assert await submit(redis, "one") == "pending"
    assert await waits_in_order(redis, waiter, "one")


async def test_a_worker_that_beats_is_pushed_to_however_long_it_waits(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    digest, room, lease, since = str(await redis.hget(keys.worker("w1"), "waits")).split()
    hours_ago = f"{digest} {room} {lease} {int(since) - 7_200_000}"
    await redis.hset(keys.worker("w1"), "waits", hours_ago)
    await waiter.beat()
    assert await submit(redis, "one") == "assigned"


async def test_who_has_hung_up_is_forgotten(redis: Redis, waiter: Waiter) -> None:
    other = Waiter(redis, "w2", "m2")
    await other.register()
    await other.turn(1)  # and listens to nothing
    await waiter.turn(1)
    assert await submit(redis, "one") == "assigned"
    assert await redis.hget(keys.job("one"), "worker_id") == "w1"
    assert await redis.zscore(f"jobs:idle:{profile()[0]}", "w2") is None


async def test_one_that_registers_anew_has_to_ask_first(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await waiter.register()
    assert await submit(redis, "one") == "pending"


async def test_nobody_is_held_up_by_one_that_registered_anew(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    other = Waiter(redis, "w2", "m2")
    await other.listen()
    await other.register()
    await other.turn(1)
    await waiter.register()
    await submit(redis, "one")
    assert await redis.hget(keys.job("one"), "worker_id") == "w2"
    await other.listener.aclose()


async def test_a_worker_whose_abilities_were_forgotten_is_to_ask(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    assert (await waiter.beat())[3] == 0
    await redis.delete("jobs:profiles", "jobs:profiles:used")
    assert (await waiter.beat())[3] == 1
    await waiter.turn(1)
    assert (await waiter.beat())[3] == 0


async def test_of_a_dead_worker_all_goes_back_and_nothing_follows(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(2)
    await submit(redis, "one")
    assert await call(redis, "ml1_recover", "w1", "it was killed") == ["one"]
    assert await submit(redis, "two") == "pending"
    assert (await JobQueue(redis).get("one")).status == "pending"


@pytest.mark.parametrize("whom", ["the reaper", "its successor"])
async def test_what_was_never_heard_of_goes_back_to_its_place_without_a_count(
    redis: Redis, waiter: Waiter, whom: str
) -> None:
    await waiter.turn(2)
    await submit(redis, "one", priority=70)
    place = await redis.hget(keys.job("one"), "queue_score")
    await submit(redis, "later")
    await given_up(redis, whom, "one", "later")
    assert await submit(redis, "third") == "pending", "nothing follows to who is asleep"
    assert await redis.zscore(keys.PENDING, "one") == float(place or 0)
    assert [(await claim(redis, "w2"))[1] for _ in range(3)] == ["one", "later", "third"]
    record = await JobQueue(redis).get("one")
    assert not {"crashes", "last_failed_worker"} & set(record.fields)
    assert [entry["event"] for entry in record.history] == ["release"]


async def test_whose_job_is_not_known_to_have_begun_is_asked_and_has_it_no_longer_than_that(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    assert await left_of_lease(redis, "one") <= 1
    await a_while_later(redis, "one")
    await waiter.asked()
    assert (await JobQueue(redis).get("one")).status == "assigned"
    assert await left_of_lease(redis, "one") <= 4
    await a_while_later(redis, "one")
    assert (await JobQueue(redis).get("one")).status == "pending"


async def test_who_answers_keeps_the_job_for_a_whole_lease(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await a_while_later(redis, "one")
    await waiter.asked()
    waiter.heard = 1
    await waiter.beat("one", 1)
    assert 15 < await left_of_lease(redis, "one") <= 20
    await a_while_later(redis, "one")
    assert (await JobQueue(redis).get("one")).fields["crashes"] == "1", "it has no second lease"


async def test_what_has_begun_is_not_asked_for(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await call(redis, "ml1_progress", "w1", "one", 1, 0, "started", "", 0)
    await a_while_later(redis, "one")
    assert 15 < await left_of_lease(redis, "one") <= 19
    await redis.publish(keys.wake("w1"), "the last word")
    await waiter.pushed()
    await waiter.hinted()


@pytest.mark.parametrize("whom", ["the reaper", "its successor"])
@pytest.mark.parametrize("sign", ["turn", "beat", "progress"])
async def test_what_was_heard_of_may_be_why_its_worker_died(
    redis: Redis, waiter: Waiter, whom: str, sign: str
) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    match sign:
        case "progress":
            await call(redis, "ml1_progress", "w1", "one", 1, 0, "started", "", 0)
        case _:
            waiter.heard = 1
            await (waiter.turn(0) if sign == "turn" else waiter.beat("one", 1))
    await given_up(redis, whom, "one")
    record = await JobQueue(redis).get("one")
    assert (record.status, record.fields["crashes"]) == ("pending", "1")


async def test_what_its_worker_gives_back_was_heard_of(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(2)
    await submit(redis, "one")
    assert await call(redis, "ml1_release", "w1", "one", 1, "crash", "service down") == "released"
    record = await JobQueue(redis).get("one")
    assert (record.status, record.fields["crashes"]) == ("pending", "1")
    assert await redis.hget(keys.worker("w1"), "waits"), "it waits for further ones"


async def test_what_goes_back_is_pushed_no_more_and_then_counts(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await given_up(redis, "its successor", "one")
    for _ in range(3):
        assert (await claim(redis))[1] == "one"
        await given_up(redis, "its successor", "one")
    assert await redis.zscore(keys.DEAD, "one"), "one that kills whatever runs it comes to an end"


async def test_what_stands_in_the_place_of_a_workers_record_costs_no_job(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await redis.set(keys.worker("w1"), "a text")
    await given_up(redis, "the reaper", "one")
    assert (await JobQueue(redis).get("one")).status == "pending"


async def test_what_was_not_heard_of_goes_back_when_the_worker_leaves(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await submit(redis, "one")
    await call(redis, "ml1_leave", "w1", profile()[0], "w1")
    record = await JobQueue(redis).get("one")
    assert (record.status, record.fields.get("crashes")) == ("pending", None)
    assert await submit(redis, "two") == "pending"


async def test_the_beat_brings_what_was_missed_and_nothing_else(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(3)
    for name in ("heard", "missed", "ended"):
        await submit(redis, name)
    waiter.heard = 1
    await waiter.turn(0, *waiter.result("ended"))
    number, jobs = (await waiter.beat("heard", 1))[6:]
    assert (number, [(job[0], job[1], job[3]) for job in jobs]) == (3, [("missed", 1, 2)])
    assert json.loads(jobs[0][2])["payload"] == '{"a": 1}'
    waiter.heard = 3
    assert (await waiter.beat("heard", 1, "missed", 1))[6:] == [3, []]


async def test_the_numbers_go_on_where_the_server_has_lost_them(
    redis: Redis, waiter: Waiter
) -> None:
    waiter.heard = 41
    await waiter.turn(1)
    await submit(redis, "one")
    assert (await waiter.pushed())[0] == 42


async def test_a_large_payload_is_asked_for(redis: Redis, waiter: Waiter) -> None:
    await waiter.turn(1)
    assert await submit(redis, "large", payload={"image": "x" * 300_000}) == "pending"
    assert await waits_in_order(redis, waiter, "large")


async def test_something_else_in_the_place_of_a_key_is_no_matter_for_the_submitter(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    await redis.set(keys.active("w1"), "a text")
    assert await submit(redis, "one") == "pending"
    record = await redis.hgetall(keys.job("one"))
    assert "worker_id" not in record
    assert "fence" not in record
    assert await redis.zscore(keys.LEASES, "one") is None
    assert (await claim(redis, "w2"))[1:3] == ["one", 1]


async def test_something_else_in_the_place_of_a_worker_is_no_matter_for_the_submitter(
    redis: Redis, waiter: Waiter
) -> None:
    await waiter.turn(1)
    found = await others(redis, "w2")
    await redis.set(keys.worker("w1"), "a text")
    assert await submit(redis, "one") == "assigned"
    assert await redis.hget(keys.job("one"), "worker_id") == "w2"
    await hang_up(*found)


async def test_one_that_does_not_count_what_is_pushed_is_only_told(
    redis: Redis, waiter: Waiter
) -> None:
    """As workers of earlier releases."""
    assert (await claim(redis))[0] == "none"
    assert await submit(redis, "one") == "pending"
    assert await waits_in_order(redis, waiter, "one")


async def test_a_message_that_is_lost_costs_a_moment_and_no_run(
    own_valkey: Any,
    admin: Redis,
    front: Front,
    workers: Workers,
) -> None:
    await workers.start(through(front, own_valkey), WORKER_ID="w-1")
    await registered(admin)
    client = JobQueue(admin)
    await end_of(client, await client.submit({}, service_required="simulation"))
    await waits(admin)
    front.lost = b"a payload of its own"
    job_id = await client.submit({"mark": "a payload of its own"}, service_required="simulation")
    assert await admin.hget(keys.job(job_id), "status") == "assigned"
    front.lost = b""
    end = await end_of(client, job_id)
    assert end.job
    assert (end.kind, end.job.fence, end.job.fields.get("crashes")) == ("completed", 1, None)
    assert workers.journal().count(f"run {job_id} 1") == 1


async def test_a_job_for_a_frozen_worker_goes_to_another_one_soon(
    own_valkey: Any,
    admin: Redis,
    workers: Workers,
) -> None:
    frozen = await workers.start(own_valkey.url, WORKER_ID="w-1")
    await has_room(admin)
    frozen.send_signal(signal.SIGSTOP)
    client = JobQueue(admin)
    job_id = await client.submit({}, service_required="simulation")
    assert await admin.hget(keys.job(job_id), "worker_id") == "w-1"
    lease = await left_of_lease(admin, job_id)
    await workers.start(own_valkey.url, WORKER_ID="w-2", WORKER_POLL_INTERVAL_MS="200")
    end = await end_of(client, job_id)
    frozen.send_signal(signal.SIGCONT)
    assert end.job
    assert lease <= 1
    assert (end.kind, end.job.worker_id, end.job.fence) == ("completed", "w-2", 2)
    assert "crashes" not in end.job.fields


async def test_a_worker_that_is_asked_whether_it_heard_says_so(
    own_valkey: Any,
    admin: Redis,
    workers: Workers,
) -> None:
    # By itself it would beat after some ten seconds.
    await workers.start(own_valkey.url, WORKER_ID="w-1", WORKER_POLL_INTERVAL_MS="60000")
    await has_room(admin)
    client = JobQueue(admin)
    job_id = await client.submit({"wait": "go"}, service_required="simulation")
    pushed = str(await admin.hget(keys.job(job_id), "pushed"))
    await admin.publish(keys.wake("w-1"), "?\n")
    async with asyncio.timeout(PATIENCE):
        while await admin.hexists(keys.job(job_id), "pushed"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    process = pushed.split()[2]
    assert await admin.hget(keys.worker("w-1"), "heard") == f"1 {process}"
    assert await left_of_lease(admin, job_id) > 15
    (workers.folder / "go").touch()
    assert (await end_of(client, job_id)).kind == "completed"


async def test_a_worker_never_does_more_than_it_may(
    own_valkey: Any,
    admin: Redis,
    workers: Workers,
) -> None:
    await workers.start(own_valkey.url, WORKER_ID="w-1")
    await waits(admin)
    client = JobQueue(admin)

    async def some(number: int) -> list[str]:
        ids = []
        for each in range(40):
            job_id = f"{number}-{each}"
            await client.submit({}, service_required="simulation", job_id=job_id)
            ids.append(job_id)
            if each % 4 == 0:
                await end_of(client, job_id)
        return ids

    ids = [job_id for each in await asyncio.gather(*map(some, range(4))) for job_id in each]
    for job_id in ids:
        assert (await end_of(client, job_id)).kind == "completed"
    running = 0
    for line in workers.journal():
        running += {"run": 1, "end": -1}.get(line.split()[0], 0)
        assert 0 <= running <= 1
    assert int(await admin.hget(keys.worker("w-1"), "pushed") or 0) > 0


async def test_what_is_pushed_to_a_worker_that_was_told_to_drain_goes_back(
    own_valkey: Any,
    admin: Redis,
    front: Front,
    workers: Workers,
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        await workers.start(
            through(front, own_valkey), MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        client = JobQueue(admin)
        await end_of(client, await client.submit({}, service_required="simulation"))
        boss.tell(do="drain")
        await boss.wait_for("status", status="draining")
        await waits(admin, ready=False)
        job_id = await client.submit({}, service_required="simulation")
        assert await admin.hget(keys.job(job_id), "status") == "pending"
        boss.tell(do="undrain")
        assert (await end_of(client, job_id)).kind == "completed"


async def test_a_worker_that_does_many_is_filled_to_the_last_place(
    own_valkey: Any,
    admin: Redis,
    workers: Workers,
) -> None:
    await workers.start(own_valkey.url, WORKER_ID="w-1", WORKER_MAX_CONCURRENT_JOBS="4")
    client = JobQueue(admin)
    for number in range(4):
        await has_room(admin)
        await client.submit({"wait": "go"}, service_required="simulation", job_id=f"job-{number}")
        assert await admin.hget(keys.job(f"job-{number}"), "status") == "assigned"
    (workers.folder / "go").touch()
    for number in range(4):
        assert (await end_of(client, f"job-{number}")).kind == "completed"


async def test_of_two_with_one_id_by_mistake_each_does_its_own(
    own_valkey: Any,
    admin: Redis,
    workers: Workers,
) -> None:
    await workers.start(own_valkey.url, WORKER_ID="w-1")
    await has_room(admin)
    first = await admin.hget(keys.worker("w-1"), "pid")
    await workers.start(own_valkey.url, WORKER_ID="w-1")
    async with asyncio.timeout(PATIENCE):
        while await admin.hget(keys.worker("w-1"), "pid") == first:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    client = JobQueue(admin)
    for number in range(6):
        await has_room(admin)
        job_id = await client.submit({}, service_required="simulation", job_id=f"job-{number}")
        assert (await end_of(client, job_id)).kind == "completed"
    assert int(await admin.hget(keys.worker("w-1"), "pushed") or 0) > 0
    runs = [line for line in workers.journal() if line.startswith("run")]
    assert runs == [f"run job-{number} 1" for number in range(6)]

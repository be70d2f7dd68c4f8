"""Jobs that a worker fetches while it does others, as all were over in a moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.ahead import Ahead
from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.delay import Delay
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.running import Ended, RunningJob
from machine_lifecycle.jobs.slots import QUICK, Slots
from machine_lifecycle.model.jobs import Job
from tests.support.fake_connector import FakeConnector
from tests.support.patience import PATIENCE
from tests.support.workers import Workers, end_of, halfway

DIGEST = "d" * 32


async def test_who_asks_for_jobs_to_come_does_not_wait_for_them(redis: Redis) -> None:
    functions, queue = QueueFunctions(redis), JobQueue(redis)

    async def turn(token: str, want: str) -> tuple[int, bool]:
        """How many jobs came, and whether it waits for more."""
        words = ("w1", "m1", DIGEST, f"0{token}", 20000, want)
        answer = await functions.call("ml1_turn", *words)
        assert answer[2] == ""
        waits = await redis.zscore(f"jobs:idle:{DIGEST}", "w1")
        return len(answer[1]), waits is not None

    able = json.dumps({"job_service_required_map": ["clock"]})
    await redis.hset("worker:w1", mapping={"worker_id": "w1", "machine_id": "m1"})
    assert await functions.call("ml1_profile", "w1", DIGEST, able, "") == "0"
    for _ in range(4):
        await queue.submit({}, service_required="clock")
    assert await turn("a", "1+1") == (2, False)
    assert await turn("b", "0+1") == (1, False)
    assert await turn("c", "1+1") == (1, False), "one to begin with is all that it waits for"
    assert await turn("d", "0+1") == (0, False), "it has enough to do"
    assert await turn("e", "1+1") == (0, True)
    assert await turn("f", "0+1") == (0, False)


async def test_a_crash_is_no_fault_of_a_job_that_had_not_begun(redis: Redis) -> None:
    functions, queue = QueueFunctions(redis), JobQueue(redis)
    able = json.dumps({"job_service_required_map": ["clock"]})
    await redis.hset("worker:w1", mapping={"worker_id": "w1", "machine_id": "m1"})
    assert await functions.call("ml1_profile", "w1", DIGEST, able, "") == "0"
    first, second, third = [await queue.submit({}, service_required="clock") for _ in range(3)]
    await functions.call("ml1_turn", "w1", "m1", DIGEST, "0a", 20000, "1+1")
    assert set(await functions.call("ml1_recover", "w1", "it was killed")) == {first, second}
    ends = {one: (await queue.get(one)).history for one in (first, second)}
    assert [end["event"] for end in ends[first]] == ["crash"]
    assert [end["event"] for end in ends[second]] == ["release"]
    # Once it has begun, as the next call tells, it may be to blame.
    await functions.call("ml1_turn", "w1", "m1", DIGEST, "0b", 20000, "1+1")
    await functions.call("ml1_turn", "w1", "m1", DIGEST, "0c", 20000, "0+1-0")
    assert await redis.hget("worker:w1", "ahead") == third
    await functions.call("ml1_recover", "w1", "it was killed")
    assert [end["event"] for end in (await queue.get(second)).history] == ["release", "crash"]
    assert [end["event"] for end in (await queue.get(third)).history] == ["release"]


async def test_of_several_that_were_fetched_ahead_the_first_begins_when_another_ends(
    redis: Redis,
) -> None:
    functions, queue = QueueFunctions(redis), JobQueue(redis)

    async def turn(token: str, want: str, *ended: str) -> set[str]:
        """Jobs that are known not to have begun."""
        words = ((one, 1, "{}", "{}", f"proof:{one}", 1, "clock") for one in ended)
        results = [word for words_of_one in words for word in words_of_one]
        start = ("w1", "m1", DIGEST, f"0{token}", 20000, want)
        answers, *_ = await functions.call("ml1_turn", *start, *results)
        assert answers == ["ok"] * len(ended)
        return set(filter(None, str(await redis.hget("worker:w1", "ahead") or "").split("\0")))

    able = json.dumps({"job_service_required_map": ["clock"]})
    await redis.hset("worker:w1", mapping={"worker_id": "w1", "machine_id": "m1"})
    assert await functions.call("ml1_profile", "w1", DIGEST, able, "") == "0"
    ids = [await queue.submit({}, service_required="clock") for _ in range(7)]
    assert await turn("a", "1+3-0") == set(ids[1:4])
    assert await turn("a", "1+3-0") == set(ids[1:4]), "the same question changes nothing"
    assert await turn("b", "0+2-1", ids[0], ids[1]) == set(ids[3:6])
    assert await turn("c", "0+0-3") == set(ids[3:6]), "who wants nothing more tells what it has"
    assert await turn("d", "0+1-2", ids[2]) == set(ids[4:7])
    await functions.call("ml1_recover", "w1", "it was killed")
    ends = [[end["event"] for end in (await queue.get(one)).history] for one in ids[3:]]
    assert ends == [["crash"], ["release"], ["release"], ["release"]]
    for one in ids[3:]:
        await queue.cancel(one)
    assert await turn("e", "1+3-0") == set()


def _run(folder: Any, turned: asyncio.Event) -> RunningJob:
    async def tell(_progress: Any) -> str:
        return "ok"

    job = Job(id="second", service_required="clock", payload={})
    return RunningJob(
        job, 1, FakeConnector(folder), report=tell, turned=turned.set, first_report=Delay(PATIENCE)
    )


async def test_it_begins_when_the_one_before_it_ends(tmp_path: Any) -> None:
    slots, turned = Slots({"clock": 1}, lambda: None), asyncio.Event()
    running = _run(tmp_path, turned)
    first, second = slots.take("clock"), slots.take("clock")
    Ahead(slots).keep(running, second, running.begin)
    assert not (tmp_path / "journal").exists()
    first.end()
    async with asyncio.timeout(PATIENCE):
        await turned.wait()
    assert running.result_at_once() is not None
    assert (tmp_path / "journal").read_text(encoding="utf-8") == "run second 1\nend second\n"


async def test_it_goes_back_if_that_takes_long(tmp_path: Any) -> None:
    slots, turned = Slots({"clock": 1}, lambda: None), asyncio.Event()
    running = _run(tmp_path, turned)
    for _ in range(3):
        slots.took("clock", QUICK / 2)
    first, second = slots.take("clock"), slots.take("clock")
    Ahead(slots).keep(running, second, running.begin)
    async with asyncio.timeout(PATIENCE):
        await turned.wait()
    with pytest.raises(Ended) as end:
        await running.finish()
    assert (end.value.outcome, slots.taken) == ("released", {"clock": 2})
    first.end()  # its turn comes before that is written down
    second.end()
    running.begin()
    assert not (tmp_path / "journal").exists()
    assert (slots.taken, slots.ahead()) == ({"clock": 0}, 0)


async def test_a_long_job_holds_up_none_that_another_worker_can_do(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    queue = JobQueue(redis)
    quick = [await queue.submit({}, service_required="simulation") for _ in range(40)]
    long = await queue.submit({"wait": "go"}, service_required="simulation")
    behind = [await queue.submit({}, service_required="simulation") for _ in range(3)]
    await workers.start(valkey.url)
    await halfway(queue, long)
    await workers.start(valkey.url, index=1)
    for job_id in (*quick, *behind):
        end = await end_of(queue, job_id)
        assert (end.kind, end.job and end.job.retry_count) == ("completed", 0)
    (workers.folder / "go").touch()
    assert (await end_of(queue, long)).kind == "completed"
    runs = [line.split()[1] for line in workers.journal() if line.startswith("run")]
    assert sorted(runs) == sorted((*quick, long, *behind)), "each ran once"

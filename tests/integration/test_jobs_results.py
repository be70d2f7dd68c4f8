"""Waiting for what a job makes, and looking at jobs."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.errors import JobNotFound
from machine_lifecycle.jobs.messages import Messages
from machine_lifecycle.jobs.result_errors import JobDidNotComplete
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_line import Line
from tests.support.patience import PATIENCE
from tests.support.workers import Workers, halfway


async def test_a_result_comes_with_its_files(valkey: Any, workers: Workers) -> None:
    await workers.start(valkey.url)
    async with asyncio.timeout(PATIENCE), open_job_queue(valkey.url) as queue:
        job_id = await queue.submit({"bytes": 1000}, service_required="simulation")
        made = await queue.result(job_id)
        assert [(one.name, one.data, one.node) for one in made.outputs] == [
            ("a.png", b"\xff" * 1000, "9")
        ]
        assert await queue.result(job_id) == made  # it has ended by now
        assert made.data == (await queue.get(job_id)).result["data"]  # type: ignore[index]


@pytest.mark.parametrize(("size", "told"), [(1000, True), (100_000, False)])
async def test_small_files_are_told_before_the_end(
    redis: Redis, valkey: Any, workers: Workers, size: int, *, told: bool
) -> None:
    queue = JobQueue(redis)
    job_id = await queue.submit({"bytes": size}, service_required="simulation")
    channel = keys.outputs(job_id)
    async with (
        asyncio.timeout(PATIENCE),
        Messages(redis) as messages,
        messages.of(job_id, files=True) as heard,
    ):
        while not dict(await redis.pubsub_numsub(channel))[channel]:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)  # sleep: how often
        await workers.start(valkey.url)
        while (news := await heard.next(PATIENCE)) is None or news.channel != keys.COMPLETE_CHANNEL:
            pass
        assert heard.files == ({keys.output(job_id, 0): b"\xff" * size} if told else {})
        assert [len(one.data) for one in (await queue.result(job_id)).outputs] == [size]


async def test_many_are_waited_for_at_a_time(valkey: Any, workers: Workers) -> None:
    await workers.start(valkey.url)
    async with asyncio.timeout(PATIENCE), open_job_queue(valkey.url) as queue:
        sizes = range(100, 120)
        ids = [await queue.submit({"bytes": n}, service_required="simulation") for n in sizes]
        made = await asyncio.gather(*map(queue.result, ids))
        assert [len(one.outputs[0].data) for one in made] == list(sizes)


async def test_a_job_that_did_not_complete_says_why(valkey: Any, workers: Workers) -> None:
    await workers.start(valkey.url)
    async with asyncio.timeout(PATIENCE), open_job_queue(valkey.url) as queue:
        failing = await queue.submit({"fail": "for good"}, service_required="simulation")
        with pytest.raises(JobDidNotComplete) as failed:
            await queue.result(failing)
        assert (failed.value.status, failed.value.job_id) == ("failed", failing)
        assert failed.value.reason == (await queue.get(failing)).error
        assert f"machine-lifecycle jobs retry {failing}" in str(failed.value)

        waiting = await queue.submit({"wait": "never"}, service_required="simulation")
        result = asyncio.create_task(queue.result(waiting))
        await halfway(queue, waiting)
        await queue.cancel(waiting)
        with pytest.raises(JobDidNotComplete, match="cancelled"):
            await result

        with pytest.raises(JobNotFound):
            await queue.result("none")


async def test_what_another_party_tells_of_a_result_is_not_all_of_it(redis: Redis) -> None:
    queue = JobQueue(redis)
    job_id = await queue.submit({}, service_required="clock")
    result = asyncio.create_task(queue.result(job_id))
    async with asyncio.timeout(PATIENCE):
        while not dict(await redis.pubsub_numsub(keys.COMPLETE_CHANNEL))[keys.COMPLETE_CHANNEL]:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
        # As the hub's own workers do: the whole of it is in the record of what completed.
        whole = {
            "success": True,
            "data": {"data": {"seed": 7}, "warnings": ["slow"], "service_metadata": "none"},
        }
        await redis.hset(keys.job(job_id), mapping={"status": "completed"})
        await redis.hset(keys.COMPLETED, job_id, json.dumps(whole))
        told = {"job_id": job_id, "status": "completed", "result": {"seed": 8}}
        await redis.publish(keys.COMPLETE_CHANNEL, json.dumps(told))
        assert (await result).data == {"seed": 7}


async def test_over_a_line_jobs_look_as_they_do_to_a_client(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    await workers.start(valkey.url)
    async with asyncio.timeout(PATIENCE), aclosing(Line(redis)) as line:
        alone = JobQueue(redis)
        done = await alone.submit({"bytes": 10}, service_required="simulation")
        failed = await alone.submit({"fail": "for good"}, service_required="simulation")
        cancelled = await alone.submit({}, service_required="none")
        await alone.cancel(cancelled)
        waiting = await alone.submit({"wait": "never"}, service_required="simulation")
        for job_id in (done, failed):
            assert [event async for event in alone.watch(job_id)][-1].job
        await halfway(alone, waiting)
        seen = []
        for queue in (alone, JobQueue(redis, line)):
            told = [
                [
                    (event.kind, event.at, event.message)
                    async for event in queue.watch(one, replay=True)
                ]
                for one in (done, failed, cancelled)
            ]
            found = {
                one: await queue.list(status=one) for one in ("", "failed", "cancelled", "dead")
            }
            files = [one.data for one in await queue.outputs(done)]
            seen.append((told, found, await queue.counts(), files))
        await alone.cancel(waiting)
        assert seen[0] == seen[1]
        told, found, counts, files = seen[0]
        assert [kinds[-1][0] for kinds in told] == ["completed", "failed", "cancelled"]
        assert [job.id for job in found["cancelled"]] == [cancelled]
        assert {job.id for job in found[""]} == {done, failed, cancelled, waiting}
        assert (counts["active"], counts["completed"], counts["failed"]) == (1, 1, 2)
        assert files == [b"\xff" * 10]


@pytest.mark.parametrize(
    ("result", "files"),
    [
        ([1], ()),
        ("done", ()),
        ({"output_files": None}, ()),
        ({"output_files": "a.png"}, ()),
        ({"output_files": [1, None, {}]}, ()),
        ({"output_files": [{"filename": "a.png", "metadata": None}]}, ("a.png",)),
        ({"output_files": [{"filename": 7, "metadata": {"key": keys.PENDING}}]}, ("",)),
        ({"output_files": [{"filename": "b", "metadata": {"key": 5, "stored": 5}}]}, ("b",)),
    ],
    ids=str,
)
async def test_whatever_another_party_left_as_a_result_is_read(
    redis: Redis, result: Any, files: tuple[str, ...]
) -> None:
    queue = JobQueue(redis)
    await queue.submit({}, service_required="clock")  # so that the key of those that wait is there
    job_id = await queue.submit({}, service_required="clock")
    await redis.hset(keys.job(job_id), mapping={"status": "completed"})
    await redis.hset(keys.COMPLETED, job_id, json.dumps({"success": True, "data": result}))
    outputs = await queue.outputs(job_id)
    assert tuple((one.name, one.data) for one in outputs) == tuple((name, b"") for name in files)
    assert (await queue.result(job_id)).outputs == outputs
    assert (await queue.get(job_id)).result == (
        result if isinstance(result, dict) else {"data": result}
    )


async def test_whatever_another_party_tells_of_a_job_is_followed(redis: Redis) -> None:
    queue = JobQueue(redis)
    job_id = await queue.submit({}, service_required="clock", job_id="None")
    steps = keys.progress_stream(job_id)
    await redis.xadd(steps, {"hello": "there"})
    odd: Any = {"status": "in_progress", "progress": "nan", "timestamp": "yesterday"}
    await redis.xadd(steps, odd)
    async with asyncio.timeout(PATIENCE), aclosing(queue.watch(job_id, replay=True)) as events:
        told = [await anext(events), await anext(events)]
        assert [(event.kind, event.percent, event.at) for event in told] == [
            ("progress", 0.0, 0),
            ("submitted", 0.0, 0),
        ]
        for text in ("nothing", "[]", "{}", '{"job_id": null}'):
            await redis.publish(keys.PROGRESS_CHANNEL, text)
        message: Any = {"job_id": job_id, "progress": [], "message": None, "current_step": "x"}
        await redis.publish(keys.PROGRESS_CHANNEL, json.dumps(message))
        event = await anext(events)
        while event.kind != "progress":
            event = await anext(events)
        assert (event.percent, event.step) == (0.0, 0)
        await queue.cancel(job_id, "x" * 100_000)
        assert [event.kind async for event in events][-1] == "cancelled"
    assert "characters are left out" in (await queue.get(job_id)).error

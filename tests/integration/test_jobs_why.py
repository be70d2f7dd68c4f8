"""Why a job waits, as the queue tells it: what holds back those who could do it."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from tests.support.patience import PATIENCE
from tests.support.workers import Orchestrator, Workers, end_of, halfway

WORKER = "m1-worker-fake-0"


async def told(client: JobQueue, job_id: str, words: str) -> tuple[str, ...]:
    """Wait until it is told; a worker gathers changes of its state for a moment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            lines = (await client.why(job_id)).words
            if any(words in line for line in lines):
                return lines
            await asyncio.sleep(0.02)  # sleep: there is no event for it


async def test_what_holds_a_worker_back_is_told(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    boss = Orchestrator(valkey.folder / "why.sock")
    async with await boss.serve():
        worker = await workers.start(valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path))
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        runs = await client.submit({"wait": "go"}, service_required="simulation")
        await halfway(client, runs)
        waits = await client.submit({}, service_required="simulation")
        assert await told(client, waits, "done with") == (
            f"{WORKER}: can run it, when done with other jobs",
        )
        other = await client.submit({}, service_required="other")
        boss.tell(do="drain")
        nobody = "0 of 1 living workers can run it"
        held = "takes no jobs now: it is draining"
        assert await told(client, waits, "draining") == (nobody, f"{WORKER}: {held}")
        both = f"{WORKER}: serves no other; {held}"
        assert (await client.why(other)).words == (nobody, both)
        boss.tell(do="undrain")
        boss.tell(do="hold")
        await told(client, waits, "takes no jobs now: its machine is short of something")
        boss.tell(do="pause", reason="it was killed")
        await told(client, waits, "takes no jobs now: its service went down")
        boss.tell(do="unhold")
        boss.tell(do="go")
        await told(client, waits, "can run it")
        (workers.folder / "go").touch()
        await end_of(client, waits)
        worker.terminate()
        assert await worker.wait() == 0
    boss.path.unlink(missing_ok=True)


async def test_a_worker_whose_service_is_down_says_so(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit({"break_service": True}, service_required="simulation")
    await told(client, job_id, "takes no jobs now: its service does not answer")
    assert (await client.get(job_id)).status == "pending"
    await redis.hset(f"job:{job_id}", "payload", "{}")
    (workers.folder / "down").unlink()
    assert (await end_of(client, job_id)).kind == "completed"

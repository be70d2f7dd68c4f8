"""Memory that a server holds for jobs that have ended, after each 10,000 of them.

Run: ``python -m tests.benchmarks.jobs.memory [BATCHES [BYTES]]`` (default 10 batches of 10,000,
results of 500 bytes). Each batch counts as ten minutes after the one before it: what is recorded
as the time of an end is put back by that much in between, as nothing is forgotten in its first
five minutes. What they would hold by their times to live alone is reckoned from the first batch,
which is not trimmed by number.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.system import redis_keys as keys
from tests.benchmarks.jobs.claims import submit
from tests.benchmarks.jobs.tools import server

BATCH, CHUNK, STEP = 10_000, 100, 600_000


async def main(batches: int = 10, size: int = 500) -> None:
    result = '{"output_files":[],"text":"' + "x" * size + '"}'
    async with server() as valkey:
        redis = valkey.redis
        functions = QueueFunctions(redis)
        caps = '{"job_service_required_map":["mine"]}'
        await functions.call("ml1_profile", "mine", "mine", caps, "")
        first = await used(redis)
        each = 0.0
        for batch in range(1, batches + 1):
            for number in range(0, BATCH, CHUNK):
                await run(
                    redis, functions, [f"b{batch}-{number + n}" for n in range(CHUNK)], result
                )
            held = await used(redis) - first
            each = each or held / BATCH
            alone = each * batch * BATCH
            print(
                f"{batch * BATCH:>9,} jobs: {held / 2**20:6.1f} MiB; by their times to live alone "
                f"{alone / 2**20:6.1f}, {alone / held:.1f} times as much; "
                f"{await redis.dbsize():,} keys"
            )
            await put_back(redis)


async def used(redis: Any) -> int:
    return int((await redis.info("memory"))["used_memory_dataset"])


async def run(redis: Any, functions: QueueFunctions, names: list[str], result: str) -> None:
    """Submit, claim and complete."""
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        submit(pipeline, name, "mine", 50)
    await pipeline.execute()
    done: list[Any] = []
    for name in names:
        token = f"0{name} "
        answers, jobs, *_ = await functions.call(
            "ml1_turn", "mine", "m", "mine", token, 20000, 1, *done
        )
        assert not done or answers[0] in (b"ok", "ok")
        job_id, fence = jobs[0][0], jobs[0][1]
        proof = f"worker:completion:{job_id}:attempt:1"
        done = [job_id, fence, result, "{}" + " " * 500, proof, 5, "mine"]
    await functions.call("ml1_turn", "mine", "m", "mine", "0end ", 20000, 0, *done)
    await functions.call("ml1_beat", "mine", "mine", 20000)


async def put_back(redis: Any) -> None:
    """Everything that has ended did so ten minutes earlier."""
    for name in (f"{keys.COMPLETED}:at", f"{keys.COMPLETED}:heavy:at"):
        rows = await redis.zrange(name, 0, -1, withscores=True)
        for start in range(0, len(rows), 1000):
            moved = {member: score - STEP for member, score in rows[start : start + 1000]}
            await redis.zadd(name, moved)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

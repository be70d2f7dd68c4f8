"""Server time of one claim behind so many jobs of others.

Run: ``python -m tests.benchmarks.jobs.claims [--named] [NUMBER]...``. With ``--named`` each of them
lists workers that may do it, or may not, as no other does. The peer is a claim that looks at the
same jobs one by one for what it can run, as a queue without an index must; in the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.submission import Submission
from tests.benchmarks.jobs.tools import server

CLAIMS = 200
CHUNK = 500
SCAN = """#!lua name=bench_scan
redis.register_function('bench_scan', function(_, a)
  for _, id in ipairs(redis.call('ZREVRANGE', 'jobs:pending', 0, tonumber(a[1]) - 1)) do
    if redis.call('HGET', 'job:' .. id, 'service_required') == 'mine' then return id end
  end
end)
"""


@attrs.frozen
class Behind:
    """What it took behind so many jobs of others, in microseconds of the server.

    Attributes:
        in_a_row: One claim, of many one after the other.
        claims: One each, after a pause in which the server was asked what it took.
        scan: Of a look at them one by one.
    """

    size: int
    in_a_row: float
    claims: list[float]
    scan: float

    @property
    def median(self) -> float:
        """Of the claims after a pause."""
        return statistics.median(self.claims)


def naming(number: int) -> dict[str, Any]:
    """Requirements with lists of workers, of which no two are alike."""
    wanted = {"worker_id": [f"other-{number}"]}
    return wanted if number % 2 else {"negative_requirements": wanted, "positive_requirements": {}}


async def measure(
    redis: Any, sizes: Sequence[int], *, named: bool = False
) -> AsyncIterator[Behind]:
    """More and more jobs of others, and some of ours behind them each time."""
    functions = QueueFunctions(redis)
    for service in ("mine", "other"):
        caps = f'{{"job_service_required_map":["{service}"]}}'
        await functions.call("ml1_profile", service, service, caps, "")
    await redis.execute_command("FUNCTION", "LOAD", "REPLACE", SCAN)
    there = 0
    for size in sizes:
        while there < size:
            pipeline = redis.pipeline(transaction=False)
            for number in range(there, min(there + CHUNK, size)):
                requirements = naming(number) if named else None
                submit(pipeline, f"o{number}", "other", 90, requirements)
            await pipeline.execute()
            there = min(there + CHUNK, size)
        for number in range(2 * CLAIMS):
            pipeline = redis.pipeline(transaction=False)
            submit(pipeline, f"m{size}-{number}", "mine", 50)
            await pipeline.execute()
        await redis.config_resetstat()
        for _ in range(5):
            await redis.execute_command("FCALL", "bench_scan", 0, size)
        scanned = await per_call(redis)
        times = []
        for number in range(CLAIMS):
            await claim(functions, f"0{size}-{number} ")
            times.append(await per_call(redis))
        for number in range(CLAIMS, 2 * CLAIMS):
            await claim(functions, f"0{size}-{number} ")
        yield Behind(size, await per_call(redis), times, scanned)


async def claim(functions: QueueFunctions, token: str) -> None:
    """One of ours."""
    answer = await functions.call("ml1_turn", "mine", "m", "mine", token, 20000, 1)
    assert answer[1][0][0].startswith("m")


async def per_call(redis: Any) -> float:
    """Microseconds of a call of a function since this was asked before."""
    stats = await redis.info("commandstats")
    await redis.config_resetstat()
    return float(stats["cmdstat_fcall"]["usec_per_call"])


async def main(sizes: list[int], *, named: bool) -> None:
    async with server() as valkey:
        async for found in measure(valkey.redis, sizes, named=named):
            print(
                f"{found.size:>9,} foreign jobs before it: claim {found.in_a_row:.0f} µs in a row, "
                f"{found.median:.0f} after a pause; scan {found.scan:9.0f} µs, "
                f"{found.scan / found.in_a_row:,.0f} times as long"
            )


def submit(
    pipeline: Any,
    job_id: str,
    service: str,
    priority: int,
    requirements: dict[str, Any] | None = None,
) -> None:
    job = Submission(
        job_id=job_id, now=1_700_000_000_000, payload={"text": "x" * 500},
        service_required=service, priority=priority, requirements=requirements, customer_id="",
        max_retries=3, timeout_minutes=None,
        ctx=None, workflow_id="", workflow_priority=None, workflow_datetime=None, current_step=None,
        total_steps=None,
    )  # fmt: skip
    pipeline.fcall("ml1_submit", 0, *job.words())


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    words.add_argument("sizes", nargs="*", type=int, metavar="NUMBER")
    words.add_argument("--named", action="store_true", help="each names workers of its own")
    asked = words.parse_args()
    asyncio.run(main(asked.sizes or [0, 10_000, 100_000], named=asked.named))

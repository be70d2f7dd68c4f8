"""How quick each queue is, and what it costs."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from typing import Any

from tests.benchmarks.jobs.tools import Starts, Tool, environment, running, seconds_of, submit

IDLE_JOBS, IDLE_GAP, IDLE_SECONDS = 40, 0.15, 60.0
SLOW_JOBS, SLOW_TAKES = 30, 0.05


async def at_full_load(
    tool: Tool, url: str, redis: Any, jobs: int, concurrency: int
) -> dict[str, float]:
    """Jobs that do nothing and wait already when the worker starts."""
    starts, number = Starts(), max(10, round(jobs * tool.share))
    env = environment(tool, url, starts.port, concurrency)
    await redis.flushall()
    await submit(tool, env, url, number)
    async with running(tool, env) as pids:
        ((_, first),) = await starts.take(1, within=60)
        spent = seconds_of(pids[0])  # what the start cost is no matter here
        begun = [began for _, began in await starts.take(number - 1, within=180)]
        spent = seconds_of(pids[0]) - spent
    return {
        "jobs/s": (number - 1) / (max(begun) - first) * 1e9,
        "µs": spent / number * 1e6,
    }


async def when_idle(tool: Tool, url: str, redis: Any) -> dict[str, float]:
    """From the call of the submitter to the first line of the job, for an idle worker."""
    starts = Starts()
    env = environment(tool, url, starts.port, 10)
    await redis.flushall()
    await submit(tool, env, url, 1)
    async with running(tool, env):
        await starts.take(1, within=60)
        submitting = asyncio.create_task(submit(tool, env, url, IDLE_JOBS, gap=IDLE_GAP))
        waits = [(began - put) / 1e6 for put, began in await starts.take(IDLE_JOBS, within=120)]
        await submitting
    waits.sort()
    return {"median": statistics.median(waits), "p90": waits[round(len(waits) * 0.9) - 1]}


async def between_jobs(tool: Tool, url: str, redis: Any) -> float:
    """Milliseconds from the end of a job to the start of the next one, one at a time, median."""
    starts = Starts()
    env = environment(tool, url, starts.port, 1)
    await redis.flushall()
    await submit(tool, env, url, SLOW_JOBS, takes=SLOW_TAKES)
    async with running(tool, env):
        begun = sorted(began for _, began in await starts.take(SLOW_JOBS, within=120))
    gaps = [(later - one) / 1e6 for one, later in itertools.pairwise(begun)]
    return statistics.median(gaps) - SLOW_TAKES * 1000


async def idle_calls(tool: Tool, url: str, redis: Any) -> float:
    """Calls a second of eight idle workers of ours, all together."""
    env = environment(tool, url, 9, 1)
    await redis.flushall()
    async with running(tool, env, of=8):
        while await redis.scard("workers:active") < 8:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.1)
        await asyncio.sleep(15)
        await redis.config_resetstat()
        await asyncio.sleep(IDLE_SECONDS)
        stats = await redis.info("commandstats")
    # What a function does inside is counted as well; idle workers send nothing but function calls.
    return float(stats.get("cmdstat_fcall", {}).get("calls", 0)) / IDLE_SECONDS

"""What becomes of jobs when a worker, its machine or Redis fails; each tool as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from typing import Any

import psutil

from machine_lifecycle.jobs.client import JobQueue
from tests.benchmarks.jobs.tools import Starts, Tool, environment, running, server, submit
from tests.support.outside import Outside, subreaper

ENDED = {"ours": "jobs:completed:at", "BullMQ": "bull:bench:completed"}
"""Where each tool counts the jobs that completed."""
PATIENCE = 100.0
FROZEN_TAKES, RESTART_TAKES, RESTART_JOBS = 8.0, 0.5, 60
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
    },
    "2": {
        "class_type": "SimulateSteps",
        "inputs": {"image": ["1", 0], "steps": 20, "seconds": 0.1, "nonce": 1},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
}


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def machine_lost(tool: Tool) -> float:
    """Seconds from the death of a worker, of which nobody tells, until another runs its job."""
    starts = Starts()
    async with server() as valkey:
        env = environment(tool, valkey.url, starts.port, 1)
        await submit(tool, env, valkey.url, 1, takes=PATIENCE)
        async with running(tool, env) as pids:
            await starts.take(1, within=60)
            async with running(tool, env, first=1):
                await asyncio.sleep(5)  # sleep: until it is up, of which not every tool tells
                for process in _family(pids[0]):
                    process.kill()
                died = time.monotonic_ns()
                ((_, again),) = await starts.take(1, within=PATIENCE)
    return (again - died) / 1e9


async def late_results(tool: Tool) -> float:
    """How many results of a run are taken that was overtaken while its worker was frozen."""
    starts = Starts()
    async with server() as valkey:
        env = environment(tool, valkey.url, starts.port, 1)
        await submit(tool, env, valkey.url, 1, takes=FROZEN_TAKES)
        async with running(tool, env) as pids:
            await starts.take(1, within=60)
            family = _family(pids[0])
            async with running(tool, env, first=1):
                for process in family:
                    process.suspend()
                await starts.take(1, within=PATIENCE)
                for process in family:
                    process.resume()
                await asyncio.sleep(FROZEN_TAKES / 2)  # sleep: a refused result leaves no trace
                return float(await valkey.redis.zcard(ENDED[tool.name]))


async def redis_restarts(tool: Tool) -> float:
    """Runs per job while Redis, with an append-only file, is away for two seconds."""
    starts, runs = Starts(), 10
    async with server(lasting=True) as valkey:
        env = environment(tool, valkey.url, starts.port, 10)
        await submit(tool, env, valkey.url, RESTART_JOBS, takes=RESTART_TAKES)
        async with running(tool, env):
            await starts.take(runs, within=60)
            await valkey.stop()
            await asyncio.sleep(2)
            await valkey.start()
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    while True:
                        await starts.take(1, within=0.5)
                        runs += 1
                if await valkey.redis.zcard(ENDED[tool.name]) == RESTART_JOBS:
                    return runs / RESTART_JOBS
    return float("nan")


async def cancelled(tool: Tool) -> float:
    """Milliseconds from the call until our connector is told to stop."""
    starts = Starts()
    async with server() as valkey:
        env = environment(tool, valkey.url, starts.port, 1)
        await submit(tool, env, valkey.url, 1, takes=PATIENCE)
        async with running(tool, env):
            await starts.take(1, within=60)
            queue = JobQueue(valkey.redis)
            (job,) = await queue.list()
            asked = time.monotonic_ns()
            await queue.cancel(job.id)
            ((_, told),) = await starts.take(1, within=10)
    return (told - asked) / 1e6


def worker_killed() -> tuple[float, float]:
    """Seconds from the death of a machine's worker until its job is back in the queue, and until
    it runs again in the worker's successor.
    """
    with subreaper():
        machine = Outside()
        try:
            machine.start()
            machine.until("machine_ready")
            graph = machine.folder / "graph.json"
            graph.write_text(json.dumps(GRAPH), encoding="utf-8")
            job = machine.call("submit", str(graph)).stdout.strip()
            machine.until("job_started", job_id=job)
            worker = next(p for p in machine.running() if "redis-worker" in " ".join(p.cmdline()))
            worker.kill()
            died = time.time()
            again = machine.until("job_started", job_id=job)["at"]
            shown: Any = json.loads(machine.call("jobs", "show", job, "--json").stdout)
            back = shown["history"][0]["at"]
            machine.signal(signal.SIGTERM)
            machine.wait()
        finally:
            machine.close()
    from machine_lifecycle.jobs.records import from_iso  # noqa: PLC0415 - only here

    return from_iso(back) / 1000 - died, float(again) - died

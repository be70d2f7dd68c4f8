"""Jobs per second and idle latency of the queue, beside a plain BLMOVE loop in the same run.

Run: ``python tests/benchmarks/jobs.py [JOBS]``. The peer moves ids between two lists and writes a
job hash; it has no lease, no fence, no matching, no progress and no attestation. Both use one
process for worker and submitter, and the same server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from machine_lifecycle.jobs.client import QueueClient
from machine_lifecycle.jobs.worker import Worker
from machine_lifecycle.jobs.worker_config import Route, WorkerConfig
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.ports import Probe
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.tasks import end_tasks
from machine_lifecycle.system.valkey import embedded_spec, embedded_url

IDLE_JOBS = 30


class Nothing:
    """A connector that does nothing, and says when."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.wanted = 0
        self.done = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def probe(self) -> Probe:
        return Probe(healthy=True)

    async def capabilities(self) -> Mapping[str, Any]:
        return {}

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - the protocol
        return False

    async def run(
        self,
        job: Job,  # noqa: ARG002 - the protocol
        progress: Callable[[Progress], None],  # noqa: ARG002 - the protocol
    ) -> JobResult:
        self.note()
        return JobResult()

    def note(self) -> None:
        self.started.append(time.perf_counter())
        if len(self.started) >= self.wanted:
            self.done.set()

    def expect(self, number: int) -> None:
        self.started, self.wanted = [], number
        self.done.clear()


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[tuple[str, Redis]]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    paths = Paths(workspace=folder / "w", runtime=folder / "r")
    spec, url = embedded_spec(paths), embedded_url(paths)
    process = await asyncio.create_subprocess_exec(*spec.command.argv, stdout=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(paths.runtime / "valkey.sock"))
                break
            await asyncio.sleep(0.01)
        redis = connect(url)
        yield url, redis
        await redis.aclose()
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


async def ours(url: str, redis: Redis, jobs: int) -> tuple[float, list[float]]:
    client, connector = QueueClient(redis), Nothing()
    config = WorkerConfig(
        worker_id="bench", machine_id="bench", process="bench", redis_url=url,
        routes=(Route(asks="nothing", service="nothing", connector=""),),
    )  # fmt: skip
    commands = connect(url)
    worker = Worker(
        config, commands, WorkerServices({"nothing": connector}, {"nothing": "nothing"})
    )
    connector.expect(jobs)
    for _ in range(jobs):
        await client.submit({}, service_required="nothing")
    task = asyncio.create_task(worker.run())
    await connector.done.wait()
    rate = (jobs - 1) / (connector.started[-1] - connector.started[0])
    waits = []
    for _ in range(IDLE_JOBS):
        await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311
        connector.expect(1)
        began = time.perf_counter()
        await client.submit({}, service_required="nothing")
        await connector.done.wait()
        waits.append(connector.started[0] - began)
    worker.stop()
    await task
    await commands.aclose()
    return rate, waits


async def peer(url: str, redis: Redis, jobs: int) -> tuple[float, list[float]]:
    done, blocking, commands = Nothing(), connect(url, blocking=True), connect(url)

    async def submit(number: int) -> None:
        pipeline = redis.pipeline(transaction=False)
        pipeline.hset(f"p:{number}", mapping={"id": number, "payload": json.dumps({})})
        pipeline.lpush("p:queue", number)
        await pipeline.execute()

    async def work() -> None:
        while True:
            number: Any = await blocking.blmove("p:queue", "p:active", 0, "RIGHT", "LEFT")
            done.note()
            pipeline = commands.pipeline(transaction=False)
            pipeline.hset(f"p:{number}", mapping={"status": "completed"})
            pipeline.lrem("p:active", 1, number)
            await pipeline.execute()

    done.expect(jobs)
    for number in range(jobs):
        await submit(number)
    task = asyncio.create_task(work())
    await done.done.wait()
    rate = (jobs - 1) / (done.started[-1] - done.started[0])
    waits = []
    for number in range(IDLE_JOBS):
        await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311
        done.expect(1)
        began = time.perf_counter()
        await submit(number)
        await done.done.wait()
        waits.append(done.started[0] - began)
    await end_tasks(task)
    await blocking.aclose()
    await commands.aclose()
    return rate, waits


async def main(jobs: int) -> None:
    async with server() as (url, redis):
        peer_rate, peer_waits = await peer(url, redis, jobs)
        rate, waits = await ours(url, redis, jobs)
        again, _ = await peer(url, redis, jobs)
    peer_rate = (peer_rate + again) / 2
    lines = [("jobs/s", rate, peer_rate)]
    for name, pick in (("idle median ms", statistics.median), ("idle max ms", max)):
        lines.append((name, pick(waits) * 1e3, pick(peer_waits) * 1e3))
    for name, mine, theirs in lines:
        sys.stdout.write(
            f"{name:<15} ours {mine:8.2f}   BLMOVE loop {theirs:8.2f}   ratio {mine / theirs:.2f}\n"
        )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))

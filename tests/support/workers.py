"""Workers as real processes, the orchestrator that leads them, and what is heard of their jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.records import JobEvent
from machine_lifecycle.system import redis_keys as keys
from tests.support.front import Front
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer

__all__ = [
    "ROUTES",
    "Orchestrator",
    "Workers",
    "end_of",
    "halfway",
    "registered",
    "through",
    "until",
]

SUPPORT = Path(__file__).parent
ROUTES = [{"asks": "simulation", "service": "fake", "connector": "fake_connector:FakeConnector"}]


class Workers:
    """Starts worker processes, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self, url: str, *, index: int = 0, **env: str) -> asyncio.subprocess.Process:
        environ = dict(os.environ)  # noqa: TID251 - a child needs PATH and the like
        environ |= {
            "PYTHONPATH": str(SUPPORT),
            "FAKE_FOLDER": str(self.folder),
            "HUB_REDIS_URL": url,
            "MACHINE_ID": "m1",
            "CONNECTORS": "fake",
            "WORKER_ROUTES": json.dumps(ROUTES),
            "WORKER_RETRY_BACKOFF_MS": "50",
            "WORKER_GPU_MEMORY_GB": "24",
            **env,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "machine_lifecycle", "redis-worker", f"--index={index}",
            env=environ, cwd=self.folder,
        )  # fmt: skip
        self.running.append(process)
        return process

    async def close(self) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def journal(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "journal").read_text(encoding="utf-8").splitlines()
        return []


class Orchestrator:
    """The other end of the link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, str(self.path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        async for line in reader:
            self.heard.put_nowait(json.loads(line))
        writer.close()

    def tell(self, **order: str) -> None:
        assert self._writer
        self._writer.write(json.dumps(order).encode() + b"\n")

    async def wait_for(self, say: str, **facts: Any) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.heard.get()
                known = message.get("say") == say or message.get("hello") == say
                if known and all(message.get(name) == value for name, value in facts.items()):
                    return message

    def hang_up(self) -> None:
        assert self._writer
        self._writer.close()


def through(front: Front, server: ValkeyServer) -> str:
    """The address of a server, by way of what stands in front of it."""
    return f"redis://:{server.password}@127.0.0.1:{front.port}"


async def registered(redis: Redis, worker: str = "w-1") -> None:
    """Return when a worker is known to the queue."""
    async with asyncio.timeout(PATIENCE):
        while not await redis.exists(keys.worker(worker)):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def until(events: AsyncIterator[JobEvent], found: Callable[[JobEvent], bool]) -> JobEvent:
    async with asyncio.timeout(PATIENCE):
        async for event in events:
            if found(event):
                return event
    raise AssertionError("the stream of events ended")


async def end_of(client: JobQueue, job_id: str) -> JobEvent:
    return await until(client.watch(job_id), lambda event: bool(event.job and event.job.ended))


async def halfway(client: JobQueue, job_id: str) -> None:
    await until(client.watch(job_id), lambda event: event.percent >= 50)

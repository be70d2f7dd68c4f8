"""Our worker and our client, as the other tools' programs are."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from machine_lifecycle.jobs.client import open_job_queue
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.ports import Probe


class Clock:
    """A connector that tells the benchmark when a job began."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls(int(environ["BENCH_PORT"]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._socket.close()

    async def probe(self) -> Probe:
        return Probe(healthy=True)

    async def capabilities(self) -> Mapping[str, Any]:
        return {}

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - the protocol
        self._tell("0")
        return True

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:  # noqa: ARG002 - likewise
        self._tell(str(job.payload["t0"]))
        if job.payload.get("takes"):
            await asyncio.sleep(job.payload["takes"])
        return JobResult(data={"pid": os.getpid()} if job.payload.get("takes") else {})

    def _tell(self, what: str) -> None:
        self._socket.sendto(f"{what} {time.monotonic_ns()}".encode(), self._to)


async def submit(url: str, jobs: int, gap: float, takes: float) -> None:
    async with open_job_queue(url) as queue:
        for _ in range(jobs):
            if gap:
                await asyncio.sleep(random.uniform(gap / 2, gap * 2))  # noqa: S311 - spreads
            payload = {"t0": time.monotonic_ns(), "takes": takes}
            await queue.submit(payload, service_required="clock")


if __name__ == "__main__":
    asyncio.run(submit(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))

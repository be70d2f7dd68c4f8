"""A service that does jobs and keeps a ledger of them, and the connector that drives it.

The service lives in the test's process: what happens to workers does not happen to its ledger.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from machine_lifecycle.connectors.errors import ServiceUnreachable
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.ports import Probe

__all__ = ["ChaosConnector", "LedgerService"]


class LedgerService:
    """Takes ``id`` on a connection, works for a moment, answers with the number of the run."""

    def __init__(self, seed: int) -> None:
        self.begun: dict[str, list[int]] = {}
        self.ended: dict[str, list[int]] = {}
        self._random = random.Random(seed)  # noqa: S311 - chaos that can be repeated
        self._runs = 0

    async def serve(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, str(path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                job_id = json.loads(line)
                self._runs += 1
                run = self._runs
                self.begun.setdefault(job_id, []).append(run)
                await asyncio.sleep(self._random.uniform(0.005, 0.15))
                self.ended.setdefault(job_id, []).append(run)
                writer.write(json.dumps(run).encode() + b"\n")
                await writer.drain()
        except OSError:
            return  # the worker died; its run is in the ledger
        finally:
            writer.close()


class ChaosConnector:
    """``FAKE_FOLDER`` holds the service's socket."""

    max_concurrent_jobs = 4

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls(Path(environ["FAKE_FOLDER"]) / "service.sock")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def probe(self) -> Probe:
        return Probe(healthy=self._path.exists())

    async def capabilities(self) -> Mapping[str, Any]:
        return {}

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - the protocol
        return False

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        try:
            writer.write(json.dumps(job.id).encode() + b"\n")
            progress(Progress(fraction=0.5))
            answer = await reader.readline()
        finally:
            writer.close()
        if not answer:
            raise ServiceUnreachable(url=str(self._path), reason="it hung up")
        return JobResult(data={"run": json.loads(answer)})

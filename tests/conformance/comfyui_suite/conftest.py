"""The services that the suite runs against: the stand-in in three dialects, and a real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import attrs
import pytest

from machine_lifecycle.connectors.base import Endpoint, Job, Progress
from machine_lifecycle.connectors.comfyui import ComfyUIConnector
from machine_lifecycle.simulation.execution import Folders, Habits
from machine_lifecycle.simulation.flavours import FLAVOURS
from machine_lifecycle.simulation.server import SimulatedComfyUI
from tests.support.patience import PATIENCE

REAL = "real"


class Gateway:
    """A TCP proxy whose connections can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepting = asyncio.Event()
        self.accepting.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def cut(self) -> None:
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            if not self.accepting.is_set():
                return
            back_reader, back_writer = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))
            finally:
                back_writer.transport.abort()
        except (asyncio.CancelledError, OSError):
            pass  # being cut is what it is for
        finally:
            writer.transport.abort()
            self._pipes.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


@attrs.frozen(kw_only=True)
class Service:
    """A running service under test."""

    name: str
    host: str
    port: int
    version: str
    classes: frozenset[str]
    stack: AsyncExitStack
    http: aiohttp.ClientSession

    @property
    def targeted_interrupt(self) -> bool:
        return not self.version.startswith("0.3.12")

    @property
    def own_socket_ids(self) -> bool:
        return self.version.startswith("0.3.12")

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    async def connector(self, port: int | None = None, **options: Any) -> ComfyUIConnector:
        endpoint = Endpoint(
            host=self.host, port=port or self.port, worker_id="suite-worker-0", options=options
        )
        return await self.stack.enter_async_context(ComfyUIConnector(endpoint))

    async def gateway(self) -> Gateway:
        return await self.stack.enter_async_context(Gateway(self.host, self.port))

    def _class(self, *names: str) -> str:
        found = next((name for name in names if name in self.classes), None)
        if found is None:
            pytest.skip(f"{self.name} has none of the classes {', '.join(names)}")
        return found

    def steps(self, image: str, steps: int, seconds: float) -> dict[str, Any]:
        """A node that takes its time, and is never found in the cache."""
        inputs = {
            "image": [image, 0],
            "steps": steps,
            "seconds": seconds,
            "nonce": random.randrange(2**31),  # noqa: S311 - no secret
        }
        return {"class_type": self._class("SimulateSteps", "CheckSteps"), "inputs": inputs}

    def raising(self, image: str, kind: str, message: str) -> dict[str, Any]:
        inputs = {"image": [image, 0], "kind": kind, "message": message}
        return {"class_type": self._class("SimulateRaise", "CheckRaise"), "inputs": inputs}

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url(path)) as response:
            assert response.status == 200, (path, response.status)
            return await response.json()

    async def queue_ids(self) -> tuple[list[str], list[str]]:
        queue = await self.get("/queue")
        return (
            [row[1] for row in queue["queue_running"]],
            [row[1] for row in queue["queue_pending"]],
        )


class Steps:
    """Takes progress, and lets a test wait until the job is at work."""

    def __init__(self) -> None:
        self.all: list[Progress] = []
        self._news = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        self.all.append(progress)
        self._news.set()

    async def at_step(self, step: int = 1) -> Progress:
        """Return once the running node is at this step."""
        await self._until(lambda: self.all[-1].steps > 1 and self.all[-1].step >= step)
        return self.all[-1]

    async def waiting(self) -> None:
        """Return once the service took the job."""
        await self._until(lambda: True)

    async def _until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not (self.all and enough()):
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def more_steps() -> Steps:
    return Steps()


@pytest.fixture
def color() -> int:
    """A colour that no earlier prompt used, so that nothing is cached."""
    return random.randrange(1 << 24)  # noqa: S311 - no secret


@pytest.fixture
def job() -> type[_Jobs]:
    return _Jobs


class _Jobs:
    """Makes jobs."""

    @staticmethod
    def of(payload: Mapping[str, Any], id: str = "job-1", timeout: float = 60.0) -> Job:  # noqa: A002 - the job's own field
        return Job(id=id, service_required="comfyui", payload=payload, timeout=timeout)


@pytest.fixture(params=[*FLAVOURS, pytest.param(REAL, marks=pytest.mark.real)])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if request.param == REAL:
            url = os.environ.get("COMFYUI_URL", "")  # noqa: TID251 - where the real one is
            if not url:
                pytest.skip("COMFYUI_URL is not set: no real ComfyUI to run against")
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
        else:
            simulated = SimulatedComfyUI(
                Folders(
                    input=tmp_path / "input", output=tmp_path / "output", temp=tmp_path / "temp"
                ),
                flavour=FLAVOURS[request.param],
                habits=Habits(step_seconds=0.01),
            )
            host, port = "127.0.0.1", await simulated.start("127.0.0.1", 0)
            stack.push_async_callback(simulated.close)
        base = f"http://{host}:{port}"
        async with http.get(f"{base}/system_stats") as response:
            stats = await response.json()
        async with http.get(f"{base}/object_info") as response:
            classes = frozenset(await response.json())
        yield Service(
            name=request.param,
            host=host,
            port=port,
            version=stats["system"]["comfyui_version"],
            classes=classes,
            stack=stack,
            http=http,
        )

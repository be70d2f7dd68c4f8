"""Round trips of a trivial graph on a real ComfyUI: the machine's queue beside a bare client.

Run: ``COMFYUI_URL=http://127.0.0.1:8188 python tests/benchmarks/comfyui_roundtrip.py [JOBS]``.
Without an address it takes the simulated service, which does next to nothing for a picture: there
the ratios are larger. A machine's own ComfyUI is on its disk: for one that was started by hand, say
where with ``COMFYUI_OUTPUT_DIRECTORY``, or its files are asked for over HTTP.

Three ways to the same end, by turns in one run, each from having the graph to having the picture's
bytes. The bare client posts, listens on a WebSocket that stays open, and fetches: nothing less
would do. The connector is what a worker drives ComfyUI with. The machine is everything: a job is
put into Redis, taken by a worker process, done, written back, and its outputs are read. First one
job at a time, then as many at a time as keep ComfyUI's queue from running dry. Ratios are told with
the bare client as 1; the load of the host is in all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # it is run as a program

from machine_lifecycle.connectors.base import Endpoint, Job  # noqa: E402
from machine_lifecycle.connectors.comfyui import ComfyUIConnector  # noqa: E402
from machine_lifecycle.jobs.client import open_job_queue  # noqa: E402
from machine_lifecycle.model.paths import Paths  # noqa: E402
from machine_lifecycle.system.network import free_port  # noqa: E402
from machine_lifecycle.system.valkey import read_discovery  # noqa: E402
from tests.support.outside import Outside  # noqa: E402
from tests.support.pages import asked, until  # noqa: E402

WARM_UP = 5
AT_A_TIME = 8
ROUND = 40
"""Jobs of one way before it is another's turn."""
Way = Callable[[dict[str, Any]], Awaitable[bytes]]


def _output_directory() -> str:
    return os.environ.get("COMFYUI_OUTPUT_DIRECTORY", "")  # noqa: TID251 - where the real one is


def graph(number: int) -> dict[str, Any]:
    """A picture that was not made before: nothing of it is cached."""
    size = {"width": 64, "height": 48, "batch_size": 1}
    # It lists the folder that it saves into: a full one would be all that is measured.
    prefix = f"benchmark-{number // 50}/b"
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": number % 0xFFFFFF}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


@contextlib.asynccontextmanager
async def bare(url: str) -> AsyncIterator[Way]:
    """As little as possible between the graph and the picture."""
    async with aiohttp.ClientSession(url) as http, http.ws_connect("/ws") as socket:
        while True:
            first = await socket.receive_json()
            if first["type"] == "status":
                client_id = first["data"]["sid"]
                break

        ends: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

        async def listen() -> None:
            async for frame in socket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    message = json.loads(frame.data)
                    if message["type"] == "executing" and message["data"]["node"] is None:
                        ends[message["data"]["prompt_id"]].set()

        async def once(graph: dict[str, Any]) -> bytes:
            body = {"prompt": graph, "client_id": client_id}
            async with http.post("/prompt", json=body) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            await ends[prompt_id].wait()
            del ends[prompt_id]
            async with http.get(f"/history/{prompt_id}") as answer:
                image = (await answer.json())[prompt_id]["outputs"]["3"]["images"][0]
            async with http.get("/view", params=image) as answer:
                return await answer.read()

        listening = asyncio.create_task(listen())
        yield once
        listening.cancel()


@contextlib.asynccontextmanager
async def connector(url: str) -> AsyncIterator[Way]:
    """Our connector alone."""
    parts = urlsplit(url)
    options = {"output_directory": _output_directory()}
    endpoint = Endpoint(host=parts.hostname or "", port=parts.port or 80, options=options)
    async with ComfyUIConnector(endpoint) as driver:

        async def once(graph: dict[str, Any]) -> bytes:
            job = Job(
                id=f"b{time.perf_counter_ns()}",
                service_required="comfyui",
                payload={"workflow": graph},
                timeout=60.0,
            )
            result = await driver.run(job, lambda _: None)
            return result.outputs[0].data or b""

        yield once


@contextlib.asynccontextmanager
async def queue_of_a_machine(url: str) -> AsyncIterator[str]:
    """A machine in front of this ComfyUI, as it is deployed: where the queue is."""
    parts = urlsplit(url)
    one = Outside(
        WORKERS="comfyui-remote:1",
        REDIS="embedded",
        WORKER_COMFYUI_REMOTE_HOST=parts.hostname or "",
        WORKER_COMFYUI_REMOTE_PORT=str(parts.port or 80),
        WORKER_COMFYUI_REMOTE_OUTPUT_DIRECTORY=_output_directory(),
    ).start("boot")
    try:
        await asyncio.to_thread(one.until_status, "ready")
        runtime, workspace = Path(one.env["MACHINE_RUNTIME_DIR"]), Path(one.env["WORKSPACE_PATH"])
        yield read_discovery(Paths(workspace=workspace, runtime=runtime)).url
    finally:
        await asyncio.to_thread(one.close)


@contextlib.asynccontextmanager
async def machine(url: str) -> AsyncIterator[Way]:
    """A machine with processes of its own and a queue in Redis."""
    async with queue_of_a_machine(url) as queue, open_job_queue(queue) as client:

        async def once(graph: dict[str, Any]) -> bytes:
            job_id = await client.submit({"workflow": graph}, service_required="comfyui")
            (output,) = (await client.result(job_id)).outputs
            return output.data

        yield once


Ways = dict[str, Way]


async def one_by_one(ways: Ways, jobs: int, numbers: Iterator[int]) -> dict[str, list[float]]:
    """Seconds of each round trip, by turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(jobs):
        for name, once in ways.items():
            began = time.perf_counter()
            await _checked(name, once, next(numbers))
            took[name].append(time.perf_counter() - began)
    return took


async def together(ways: Ways, jobs: int, numbers: Iterator[int]) -> dict[str, list[float]]:
    """Seconds from one end to the next with some under way, of each round, by turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}

    async def lane(name: str, once: Way, left: Iterator[int]) -> None:
        for _ in left:
            await _checked(name, once, next(numbers))

    for _ in range(-(-jobs // ROUND)):
        for name, once in ways.items():
            left = iter(range(ROUND))
            began = time.perf_counter()
            await asyncio.gather(*(lane(name, once, left) for _ in range(AT_A_TIME)))
            took[name].append((time.perf_counter() - began) / ROUND)
    return took


async def _checked(name: str, once: Way, number: int) -> None:
    picture = await once(graph(number))
    if picture[:4] != b"\x89PNG":
        raise AssertionError(f"{name}: no picture: {picture[:40]!r}")


def show(title: str, took: dict[str, list[float]]) -> None:
    """Print it, each against the first."""
    print(f"{title}; ms")
    print(f"{'':12} {'min':>7} {'median':>7} {'p95':>7} {'ratio of medians':>17}")
    base = statistics.median(next(iter(took.values())))
    for name, times in took.items():
        middle, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        figures = " ".join(f"{one * 1000:7.1f}" for one in (min(times), middle, late))
        print(f"{name:12} {figures} {middle / base:17.2f}")


async def measure(url: str, jobs: int) -> None:
    """Measure by turns, and print."""
    numbers = itertools.count(int(time.time() * 1000))
    async with contextlib.AsyncExitStack() as stack:
        ways: Ways = {
            "bare client": await stack.enter_async_context(bare(url)),
            "connector": await stack.enter_async_context(connector(url)),
            "machine": await stack.enter_async_context(machine(url)),
        }
        await one_by_one(ways, WARM_UP, numbers)
        took = await one_by_one(ways, jobs, numbers)
        show(f"{jobs} round trips each, one at a time", took)
        took = await together(ways, jobs, numbers)
        show(f"{jobs} jobs each, {AT_A_TIME} at a time, from one end to the next", took)


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[str]:
    """The simulated service in a process of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "machine_lifecycle.simulation", "--port", str(port)),
            *("--output-directory", folder),
        )
        url = f"http://127.0.0.1:{port}"
        try:
            await asyncio.to_thread(
                until, lambda: asked(f"{url}/system_stats"), lambda got: got[0] == 200, lambda: url
            )
            yield url
        finally:
            process.terminate()
            await process.wait()


async def main() -> None:
    """Of the service that is named, or of the simulated one."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    where = os.environ.get("COMFYUI_URL", "")  # noqa: TID251 - where the real one is
    if where:
        await measure(where.rstrip("/"), jobs)
        return
    async with simulated() as url:
        await measure(url, jobs)


if __name__ == "__main__":
    asyncio.run(main())

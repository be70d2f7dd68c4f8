"""Round trips of a trivial graph on a real ComfyUI: the machine's queue beside a bare client.

Run: ``COMFYUI_URL=http://127.0.0.1:8188 python tests/benchmarks/comfyui_roundtrip.py [JOBS]``.

Three ways to the same end, by turns in one run, each from having the graph to having the picture's
bytes. The bare client posts, listens on a WebSocket that stays open, and fetches: nothing less
would do. The connector is what a worker drives ComfyUI with. The machine is everything: a job is
put into Redis, taken by a worker process, done, written back, and its outputs are read. Ratios are
told with the bare client as 1; the load of the host is in all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from machine_lifecycle.system.valkey import read_discovery  # noqa: E402
from tests.support.outside import Outside  # noqa: E402

WARM_UP = 5
Way = Callable[[dict[str, Any]], Awaitable[bytes]]


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

        async def once(graph: dict[str, Any]) -> bytes:
            body = {"prompt": graph, "client_id": client_id}
            async with http.post("/prompt", json=body) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    continue
                message = json.loads(frame.data)
                data = message["data"]
                ours = message["type"] == "executing" and data.get("prompt_id") == prompt_id
                if ours and data["node"] is None:
                    break
            async with http.get(f"/history/{prompt_id}") as answer:
                image = (await answer.json())[prompt_id]["outputs"]["3"]["images"][0]
            async with http.get("/view", params=image) as answer:
                return await answer.read()

        yield once


@contextlib.asynccontextmanager
async def connector(url: str) -> AsyncIterator[Way]:
    """Our connector alone."""
    parts = urlsplit(url)
    endpoint = Endpoint(host=parts.hostname or "", port=parts.port or 80)
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
    ).start()
    try:
        await asyncio.to_thread(one.until, "machine_ready")
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
            async for event in client.watch(job_id):
                if event.job is not None and event.job.ended:
                    (output,) = await client.outputs(event.job)
                    return output.data or b""
            raise AssertionError(f"{job_id}: no end")

        yield once


async def measure(url: str, jobs: int) -> None:
    """Measure by turns, and print."""
    ways: dict[str, Callable[[str], contextlib.AbstractAsyncContextManager[Way]]] = {
        "bare client": bare,
        "connector": connector,
        "machine": machine,
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    number = int(time.time() * 1000)
    async with contextlib.AsyncExitStack() as stack:
        entered = {name: await stack.enter_async_context(way(url)) for name, way in ways.items()}
        for turn in range(jobs + WARM_UP):
            for name, once in entered.items():
                number += 1
                began = time.perf_counter()
                picture = await once(graph(number))
                seconds = time.perf_counter() - began
                if picture[:4] != b"\x89PNG":
                    raise AssertionError(f"{name}: no picture: {picture[:40]!r}")
                if turn >= WARM_UP:
                    took[name].append(seconds)
    base = statistics.median(took["bare client"])
    print(f"{jobs} round trips each, by turns; ms")
    print(f"{'':12} {'min':>7} {'median':>7} {'p95':>7} {'ratio of medians':>17}")
    for name, times in took.items():
        middle, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        figures = " ".join(f"{one * 1000:7.1f}" for one in (min(times), middle, late))
        print(f"{name:12} {figures} {middle / base:17.2f}")


if __name__ == "__main__":
    where = os.environ.get("COMFYUI_URL", "")  # noqa: TID251 - where the real one is
    if not where:
        sys.exit("Say where a ComfyUI runs: COMFYUI_URL=http://127.0.0.1:8188")
    asyncio.run(measure(where.rstrip("/"), int(sys.argv[1]) if len(sys.argv) > 1 else 100))

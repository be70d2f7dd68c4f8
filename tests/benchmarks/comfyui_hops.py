"""Where the time of a job goes on its way through a machine to a real ComfyUI and back.

Run: ``COMFYUI_URL=http://127.0.0.1:8188 python tests/benchmarks/comfyui_hops.py [JOBS]``.

All times count from the call of ``submit``. What the queue tells is noted when this program hears
it; when ComfyUI began and ended is from its own history, in whole milliseconds, so ComfyUI has to
run on this host. ``comfyui_roundtrip.py`` holds the whole against a bare client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # it is run as a program

from machine_lifecycle.jobs.client import JobQueue, open_job_queue  # noqa: E402
from machine_lifecycle.jobs.records import json_object  # noqa: E402
from machine_lifecycle.system import redis_keys as keys  # noqa: E402
from machine_lifecycle.system.redis import connect  # noqa: E402
from tests.benchmarks.comfyui_roundtrip import WARM_UP, graph, queue_of_a_machine  # noqa: E402

HOPS = (
    "submit returned",
    "claimed, as told",
    "ComfyUI began",
    "ComfyUI ended",
    "completed, as told",
    "watch yielded",
    "outputs read",
)


class Heard:
    """When each job was claimed and completed, by what the queue tells everybody."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], float] = {}
        self.listening = asyncio.Event()

    async def listen(self, redis: Any) -> None:
        subscription = redis.pubsub(ignore_subscribe_messages=True)
        try:
            await subscription.subscribe(keys.CLAIMED, keys.COMPLETE_CHANNEL)
            self.listening.set()
            async for message in subscription.listen():
                now = time.time()
                job_id = str(json_object(message["data"]).get("job_id"))
                self._times.setdefault((str(message["channel"]), job_id), now)
        finally:
            await subscription.aclose()

    def at(self, channel: str, job_id: str) -> float:
        return self._times[channel, job_id]


async def once(
    client: JobQueue, http: aiohttp.ClientSession, heard: Heard, number: int
) -> list[float]:
    """One job; seconds from its submission to each of HOPS."""
    began = time.time()
    job_id = await client.submit({"workflow": graph(number)}, service_required="comfyui")
    submitted = time.time()
    async for event in client.watch(job_id):
        if event.kind in {"completed", "failed", "cancelled"}:
            break
    yielded = time.time()
    (output,) = await client.outputs(event.job or job_id)
    read = time.time()
    if not output.data:
        raise AssertionError(f"{job_id}: no picture")
    record = await client.get(job_id)
    prompt_id = (record.result or {})["service_metadata"]["service_job_id"]
    async with http.get(f"/history/{prompt_id}") as answer:
        messages = dict((await answer.json())[prompt_id]["status"]["messages"])
    times = [
        submitted,
        heard.at(keys.CLAIMED, job_id),
        messages["execution_start"]["timestamp"] / 1000,
        messages["execution_success"]["timestamp"] / 1000,
        heard.at(keys.COMPLETE_CHANNEL, job_id),
        yielded,
        read,
    ]
    return [at - began for at in times]


async def measure(url: str, jobs: int) -> None:
    """Measure one job after the other, and print."""
    heard, rows = Heard(), []
    async with contextlib.AsyncExitStack() as stack:
        queue = await stack.enter_async_context(queue_of_a_machine(url))
        client = await stack.enter_async_context(open_job_queue(queue))
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        redis = connect(queue)
        stack.push_async_callback(redis.aclose)
        listener = asyncio.create_task(heard.listen(redis))
        await heard.listening.wait()
        number = int(time.time() * 1000)
        for turn in range(jobs + WARM_UP):
            row = await once(client, http, heard, number + turn)
            rows += [row] if turn >= WARM_UP else []
        listener.cancel()
        await asyncio.wait({listener})
    print(f"{jobs} jobs, one after the other; ms since the submission")
    print(f"{'':20} {'min':>7} {'median':>7} {'p95':>7}")
    for name, times in zip(HOPS, zip(*rows, strict=True), strict=True):
        middle, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        figures = " ".join(f"{one * 1000:7.1f}" for one in (min(times), middle, late))
        print(f"{name:20} {figures}")


if __name__ == "__main__":
    where = os.environ.get("COMFYUI_URL", "")  # noqa: TID251 - where the real one is
    if not where:
        sys.exit("Say where a ComfyUI runs: COMFYUI_URL=http://127.0.0.1:8188")
    asyncio.run(measure(where.rstrip("/"), int(sys.argv[1]) if len(sys.argv) > 1 else 100))

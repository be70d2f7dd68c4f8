"""taskiq over a Redis stream: the broker of its own that acknowledges. It keeps no result unless
``BENCH_RESULTS`` is set: then in Redis, for a day, as the other tools do.
"""

import asyncio
import os
import random
import socket
import sys
import time

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

url = os.environ["BENCH_URL"]  # noqa: TID251 - a program of its own
broker = RedisStreamBroker(url=url)
if os.environ.get("BENCH_RESULTS"):  # noqa: TID251 - likewise
    broker = broker.with_result_backend(RedisAsyncResultBackend(url, result_ex_time=86400))
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = ("127.0.0.1", int(os.environ["BENCH_PORT"]))  # noqa: TID251 - likewise


@broker.task
async def clock(t0: int, takes: float) -> None:
    out.sendto(f"{t0} {time.monotonic_ns()}".encode(), to)
    if takes:
        await asyncio.sleep(takes)


async def submit(jobs: int, gap: float, takes: float) -> None:
    await broker.startup()
    for _ in range(jobs):
        if gap:
            await asyncio.sleep(random.uniform(gap / 2, gap * 2))  # noqa: S311 - spreads
        await clock.kiq(time.monotonic_ns(), takes)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(submit(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))

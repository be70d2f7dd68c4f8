"""arq as it comes, ten jobs at a time."""

import asyncio
import os
import random
import socket
import sys
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = ("127.0.0.1", int(os.environ["BENCH_PORT"]))  # noqa: TID251 - a program of its own
settings = RedisSettings.from_dsn(os.environ["BENCH_URL"])  # noqa: TID251 - likewise


async def clock(_ctx: dict[str, Any], t0: int, takes: float) -> None:
    out.sendto(f"{t0} {time.monotonic_ns()}".encode(), to)
    if takes:
        await asyncio.sleep(takes)


class WorkerSettings:
    functions = (clock,)
    redis_settings = settings
    max_jobs = int(os.environ["BENCH_CONCURRENCY"])  # noqa: TID251 - likewise


async def submit(jobs: int, gap: float, takes: float) -> None:
    pool = await create_pool(settings)
    for _ in range(jobs):
        if gap:
            await asyncio.sleep(random.uniform(gap / 2, gap * 2))  # noqa: S311 - spreads
        await pool.enqueue_job("clock", time.monotonic_ns(), takes)


if __name__ == "__main__":
    asyncio.run(submit(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))

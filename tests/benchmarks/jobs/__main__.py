"""Run: ``python -m tests.benchmarks.jobs [--jobs N] [--peers PYTHON] [--bullmq FOLDER]``.

``PYTHON`` is an interpreter that has taskiq-redis, arq and rq; ``FOLDER`` one in which ``npm
install bullmq`` was run. Without them ours alone is measured. All use one Valkey without
persistence over TCP; each tool runs alone, a worker process and a submitting one. Jobs do
nothing but tell when they began. Compare the ratios: the figures depend on the machine and on
what else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.valkey import find_server

HERE = Path(__file__).parent
IDLE_JOBS = 40
IDLE_GAP = 0.15
IDLE_SECONDS = 60.0
LOOK = 0.005
ROUTES = [{"asks": "clock", "service": "clock", "connector": "tests.benchmarks.jobs.ours:Clock"}]


@attrs.frozen(kw_only=True)
class Tool:
    """A queue to be measured.

    Attributes:
        work: Command of its worker.
        submit: Command that submits; URL, number and gap are put behind it.
        share: How many of the asked jobs it is given, so that slow ones end.
    """

    name: str
    work: tuple[str, ...]
    submit: tuple[str, ...]
    share: float = 1.0
    env: dict[str, str] = attrs.field(factory=dict)


class Starts:
    """Hears when jobs begin."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's name
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])

    async def take(self, number: int, within: float) -> list[tuple[int, int]]:
        """When so many jobs were submitted, and when they began, in nanoseconds.

        It looks now and then: to be woken by each would cost as much as some of the tools do.
        """
        found = list[tuple[int, int]]()
        async with asyncio.timeout(within):
            while len(found) < number:
                await asyncio.sleep(LOOK)
                with contextlib.suppress(BlockingIOError):
                    while len(found) < number:
                        submitted, began = self._socket.recv(200).split()
                        found.append((int(submitted), int(began)))
        return found


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[tuple[str, Redis]]:
    with tempfile.TemporaryDirectory(prefix="ml-", dir="/tmp") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        process = await asyncio.create_subprocess_exec(
            str(find_server()), "--port", port, "--bind", "127.0.0.1", "--save", "",
            "--dir", folder,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        redis = connect(f"redis://127.0.0.1:{port}")
        for _ in range(100):
            with contextlib.suppress(RedisError, OSError):
                await redis.ping()
                break
            await asyncio.sleep(0.05)
        try:
            yield f"redis://127.0.0.1:{port}", redis
        finally:
            await redis.aclose()
            process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def running(tool: Tool, env: dict[str, str], *, of: int = 1) -> AsyncIterator[list[int]]:
    """Its workers; their process ids."""
    started = [
        await asyncio.create_subprocess_exec(
            *tool.work,
            env=env | {"WORKER_ID": f"bench-{number}"},
            cwd=HERE if tool.work[1:2] != ("-m",) else None,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for number in range(of)
    ]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def submit(tool: Tool, env: dict[str, str], url: str, jobs: int, gap: float) -> None:
    process = await asyncio.create_subprocess_exec(
        *tool.submit, url, str(jobs), str(gap), env=env,
        cwd=HERE if tool.submit[1:2] != ("-m",) else None,
    )  # fmt: skip
    if await process.wait():
        raise RuntimeError(f"{tool.name} can't submit")  # noqa: TRY003, RUF100


def seconds_of(pid: int) -> float:
    """Processor time of a process and of its children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


async def measure(
    tool: Tool, url: str, redis: Any, jobs: int, concurrency: int
) -> dict[str, float]:
    starts = Starts()
    environ = dict(os.environ)  # noqa: TID251 - a child needs PATH and the like
    env = environ | tool.env | {
        "BENCH_URL": url, "BENCH_PORT": str(starts.port), "BENCH_CONCURRENCY": str(concurrency),
        "HUB_REDIS_URL": url, "WORKER_ROUTES": json.dumps(ROUTES), "CONNECTORS": "clock",
        "WORKER_MAX_CONCURRENT_JOBS": str(concurrency), "MACHINE_ID": "bench",
    }  # fmt: skip
    number = round(jobs * tool.share)
    await redis.flushall()
    await submit(tool, env, url, number, 0)
    async with running(tool, env) as pids:
        begun = sorted(began for _, began in await starts.take(number, within=180))
        rate = (number - 1) / (begun[-1] - begun[0]) * 1e9
        spent = seconds_of(pids[0]) / number * 1e6
        idle = asyncio.create_task(submit(tool, env, url, IDLE_JOBS, IDLE_GAP))
        waits = [(began - put) / 1e6 for put, began in await starts.take(IDLE_JOBS, within=120)]
        await idle
    waits.sort()
    return {
        "jobs/s": rate,
        "CPU µs/job": spent,
        "idle start median ms": statistics.median(waits),
        "idle start p90 ms": waits[round(len(waits) * 0.9) - 1],
    }


async def idle_calls(tool: Tool, url: str, redis: Any) -> float:
    """Calls a second of eight idle workers of ours."""
    environ = dict(os.environ)  # noqa: TID251 - see above
    env = environ | {
        "HUB_REDIS_URL": url, "WORKER_ROUTES": json.dumps(ROUTES), "CONNECTORS": "clock",
        "MACHINE_ID": "bench", "BENCH_PORT": "9",
    }  # fmt: skip
    await redis.flushall()
    async with running(tool, env, of=8):
        while await redis.scard("workers:active") < 8:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.1)
        await asyncio.sleep(15)
        await redis.config_resetstat()
        await asyncio.sleep(IDLE_SECONDS)
        stats = await redis.info("commandstats")
    # What a function does inside is counted as well; idle workers send nothing but function calls.
    return float(stats.get("cmdstat_fcall", {}).get("calls", 0)) / IDLE_SECONDS


def tools(peers: str, bullmq: str) -> list[Tool]:
    python = sys.executable
    found = [
        Tool(
            name="ours",
            work=(python, "-m", "machine_lifecycle", "redis-worker"),
            submit=(python, "-m", "tests.benchmarks.jobs.ours"),
        )
    ]
    if bullmq:
        script = str(HERE / "peer_bullmq.mjs")
        env = {"BENCH_NODE_MODULES": bullmq}
        found.append(
            Tool(name="BullMQ", work=("node", script, "work"), submit=("node", script), env=env)
        )
    if peers:
        runner = Path(peers).parent
        found += [
            Tool(
                name="taskiq",
                work=(
                    str(runner / "taskiq"), "worker", "peer_taskiq:broker", "--workers", "1",
                    "--max-async-tasks", "10", "--log-level", "ERROR",
                ),
                submit=(peers, "peer_taskiq.py"),
            ),
            Tool(
                name="arq",
                work=(str(runner / "arq"), "peer_arq.WorkerSettings"),
                submit=(peers, "peer_arq.py"),
                share=0.2,
            ),
            Tool(
                name="rq", work=(peers, "peer_rq.py", "work"), submit=(peers, "peer_rq.py"),
                share=0.1,
            ),
        ]  # fmt: skip
    return found


async def main(jobs: int, concurrency: int, chosen: list[Tool]) -> None:
    rows: dict[str, dict[str, float]] = {}
    async with server() as (url, redis):
        # Ours before and after the others, so that a machine that gets busy meanwhile shows.
        for tool in [*chosen, chosen[0]]:
            row = await measure(tool, url, redis, jobs, concurrency)
            print(tool.name, {name: round(value, 2) for name, value in row.items()})
            before = rows.get(tool.name, row)
            rows[tool.name] = {name: (value + before[name]) / 2 for name, value in row.items()}
        calls = await idle_calls(chosen[0], url, redis)
    names = list(rows["ours"])
    print(
        f"\nIn brackets: as a multiple of ours.\n\n| {concurrency} in flight | "
        + " | ".join(names)
        + " |"
    )
    print("|---" * (len(names) + 1) + "|")
    for tool_name, row in rows.items():
        cells = [f"{row[name]:,.1f} ({row[name] / rows['ours'][name]:.2f})" for name in names]
        print(f"| {tool_name} | " + " | ".join(cells) + " |")
    print(f"\ncalls a second of 8 idle workers: {calls:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--peers", default="", help="a Python that has the peers")
    parser.add_argument("--bullmq", default="", help="a folder where bullmq is installed")
    asked = parser.parse_args()
    asyncio.run(main(asked.jobs, asked.concurrency, tools(asked.peers, asked.bullmq)))

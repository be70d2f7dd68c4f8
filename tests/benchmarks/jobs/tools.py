"""The queues that are measured, each as a command that works and one that submits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import psutil
from redis.exceptions import RedisError

from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.valkey import find_server

HERE = Path(__file__).parent
LOOK = 0.005
PROCESSORS = sorted(os.sched_getaffinity(0))
"""The server has the first one to itself, as far as the benchmark goes; all else has the others."""
WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""In front of a command: it ends with this program, however that ends (util-linux)."""
ROUTES = [{"asks": "clock", "service": "clock", "connector": "tests.benchmarks.jobs.ours:Clock"}]


@attrs.frozen(kw_only=True)
class Tool:
    """A queue to be measured.

    Attributes:
        work: Command of its worker.
        submit: Command that submits; URL, number, gap, and the seconds that a job takes are put
            behind it.
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


class Server:
    """A Valkey of its own, over TCP; without persistence unless that is asked for."""

    def __init__(self, *, lasting: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self._folder = tempfile.TemporaryDirectory(prefix="ml-", dir="/tmp")
        keep = ("--appendonly", "yes") if lasting else ()
        self._command = (
            str(find_server()), "--port", port, "--bind", "127.0.0.1", "--save", "",
            "--dir", self._folder.name, *keep,
        )  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"redis://127.0.0.1:{port}"
        self.redis: Any = connect(self.url)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *WITH_US, *self._command, stdout=asyncio.subprocess.DEVNULL
        )
        # Else server and worker may share one while others use the rest, or not, as it happens.
        os.sched_setaffinity(self._process.pid, {PROCESSORS[0]})
        for _ in range(100):
            with contextlib.suppress(RedisError, OSError):
                await self.redis.ping()
                return
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._process:
            self._process.terminate()
            await self._process.wait()

    async def close(self) -> None:
        await self.redis.aclose()
        await self.stop()
        self._folder.cleanup()


@contextlib.asynccontextmanager
async def server(*, lasting: bool = False) -> AsyncIterator[Server]:
    found = Server(lasting=lasting)
    try:
        await found.start()
        yield found
    finally:
        await found.close()


@contextlib.asynccontextmanager
async def running(
    tool: Tool, env: dict[str, str], *, of: int = 1, first: int = 0
) -> AsyncIterator[list[int]]:
    """Its workers, numbered from *first* on; their process ids."""
    started = [
        await asyncio.create_subprocess_exec(
            *WITH_US,
            *(env[word[1:]] if word.startswith("$") else word for word in tool.work),
            env=env | {"WORKER_ID": f"bench-{number}"},
            cwd=HERE if tool.work[1:2] != ("-m",) else None,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for number in range(first, first + of)
    ]
    if others := PROCESSORS[1:]:
        for process in started:
            os.sched_setaffinity(process.pid, others)
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


async def submit(
    tool: Tool, env: dict[str, str], url: str, jobs: int, *, gap: float = 0, takes: float = 0
) -> None:
    process = await asyncio.create_subprocess_exec(
        *WITH_US, *tool.submit, url, str(jobs), str(gap), str(takes), env=env,
        cwd=HERE if tool.submit[1:2] != ("-m",) else None,
    )  # fmt: skip
    if await process.wait():
        raise RuntimeError(f"{tool.name} can't submit")  # noqa: TRY003, RUF100


def environment(tool: Tool, url: str, port: int, concurrency: int) -> dict[str, str]:
    """What workers and submitters are told; *port* hears when jobs begin."""
    environ = dict(os.environ)  # noqa: TID251 - a child needs PATH and the like
    return environ | tool.env | {
        "BENCH_URL": url, "BENCH_PORT": str(port), "BENCH_CONCURRENCY": str(concurrency),
        "HUB_REDIS_URL": url, "WORKER_ROUTES": json.dumps(ROUTES), "CONNECTORS": "clock",
        "WORKER_MAX_CONCURRENT_JOBS": str(concurrency), "MACHINE_ID": "bench",
    }  # fmt: skip


def seconds_of(pid: int) -> float:
    """Processor time of a process and of its children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


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
        taskiq = Tool(
            name="taskiq",
            work=(
                str(runner / "taskiq"), "worker", "peer_taskiq:broker", "--workers", "1",
                "--max-async-tasks", "$BENCH_CONCURRENCY", "--log-level", "ERROR",
            ),
            submit=(peers, "peer_taskiq.py"),
        )  # fmt: skip
        found += [
            taskiq,
            attrs.evolve(taskiq, name="taskiq, with results", env={"BENCH_RESULTS": "1"}),
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

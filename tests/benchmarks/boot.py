"""How long a boot with nothing to install takes, against its own critical path.

Run ``python tests/benchmarks/boot.py``. Boots the simulation several times from command to Ready,
and measures in the same run what can't be had faster: the orchestrator's imports, then the service
and the worker, each started alone. Prints medians, the ratio, and how soon Ready follows the
service's readiness when that is delayed. With PM2 on PATH, the same processes under PM2 as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from redis.exceptions import RedisError

from machine_lifecycle.system.network import free_port
from machine_lifecycle.system.redis import connect
from tests.support.outside import Outside, subreaper
from tests.support.redis_server import ValkeyServer

RUNS = int(os.environ.get("BENCH_RUNS", "5"))  # noqa: TID251 - a setting of this program
DELAYS = (0, 300, 1500)
ORCHESTRATOR = "import machine_lifecycle.cli.boot, machine_lifecycle.machine, redis.asyncio"
WORKER = "import machine_lifecycle.jobs.starting, machine_lifecycle.connectors.comfyui"


def median_ms(measure: Callable[[], float]) -> float:
    """The median of several runs, in milliseconds."""
    return statistics.median(measure() for _ in range(RUNS)) * 1000


def imports(code: str) -> Callable[[], float]:
    """Seconds that a fresh interpreter needs for some imports."""

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return measure


def service_alone() -> float:
    """Seconds from spawn until the simulated service listens."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "machine_lifecycle.simulation", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "http://" in line:
            break
    took = time.perf_counter() - began
    child.send_signal(signal.SIGTERM)
    child.wait()
    child.stdout.close()
    return took


def boot(delay_ms: int = 0) -> tuple[float, float]:
    """Seconds from command to Ready, and from the service's readiness to Ready."""
    machine = Outside(SIMULATION_READY_DELAY_MS=str(delay_ms))
    try:
        began = time.time()
        machine.start()
        online = machine.until("changed", target="workers_starting")["at"]
        ready = machine.until("machine_ready")["at"]
        machine.signal(signal.SIGTERM)
        machine.wait()
        return ready - began, ready - online
    finally:
        machine.close()


def under_pm2(pm2: str) -> float:
    """Seconds from PM2's command until the same service and worker do what Ready promises.

    PM2 knows no readiness, so the worker is looked for where a hub would: in Redis.
    """
    server = ValkeyServer()
    port = free_port()
    home = server.folder / "pm2"
    worker = {
        "HUB_REDIS_URL": server.url,
        "WORKER_ID": "w",
        "MACHINE_ID": "m",
        "CONNECTORS": "simulation",
        "SIMULATION_HOST": "127.0.0.1",
        "SIMULATION_PORT": str(port),
        "WORKER_ROUTES": json.dumps(
            [
                {
                    "asks": "simulation",
                    "service": "simulation",
                    "connector": "machine_lifecycle.connectors.comfyui:SimulationConnector",
                }
            ]
        ),
    }
    service = ["-m", "machine_lifecycle.simulation", "--port", str(port)]
    apps = [
        _app("valkey", server.spec.command.argv[0], server.spec.command.argv[1:]),
        _app("service", sys.executable, service),
        _app("worker", sys.executable, ["-m", "machine_lifecycle", "redis-worker"], worker),
    ]
    file = server.folder / "eco.config.json"
    file.write_text(json.dumps({"apps": apps}), encoding="utf-8")
    env = {**os.environ, "PM2_HOME": str(home)}  # noqa: TID251 - PM2 needs PATH and HOME
    began = time.perf_counter()
    subprocess.run([pm2, "start", str(file)], env=env, check=True, capture_output=True)
    try:
        asyncio.run(_registered(server.url))
        return time.perf_counter() - began
    finally:
        subprocess.run([pm2, "kill"], env=env, check=False, capture_output=True)
        server.close()


def _app(
    name: str, script: str, args: Sequence[str], env: dict[str, str] | None = None
) -> dict[str, object]:
    return {
        "name": name,
        "script": script,
        "args": list(args),
        "interpreter": "none",
        "env": env or {},
    }


async def _registered(url: str) -> None:
    """Look until the worker stands in Redis."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        client = connect(url)
        try:
            if await client.exists("worker:w"):
                return
        except (RedisError, OSError):
            pass
        finally:
            await client.aclose()
        await asyncio.sleep(0.01)  # sleep: PM2 tells nobody when a process is of use
    raise TimeoutError("the worker never came")


def main() -> None:
    """Measure and print."""
    say = sys.stdout.write
    with subreaper():
        total = median_ms(lambda: boot()[0])
        orchestrator = median_ms(imports(ORCHESTRATOR))
        service = median_ms(service_alone)
        worker = median_ms(imports(WORKER))
        critical = orchestrator + max(service, worker)
        say(f"medians of {RUNS} runs\n")
        say(f"command to Ready             {total:7.0f} ms\n")
        say(f"  orchestrator's imports     {orchestrator:7.0f} ms\n")
        say(f"  service alone              {service:7.0f} ms\n")
        say(f"  worker's imports alone     {worker:7.0f} ms\n")
        say(f"critical path                {critical:7.0f} ms\n")
        say(f"ratio                        {total / critical:7.2f}\n")
        pm2 = shutil.which("pm2")
        if pm2:
            theirs = median_ms(lambda: under_pm2(pm2))
            say(f"the same under PM2           {theirs:7.0f} ms\n")
            say(f"ratio                        {total / theirs:7.2f}\n")
        else:
            say("PM2 is not on PATH: not compared\n")
        for delay in DELAYS:
            follows = statistics.median(boot(delay)[1] for _ in range(RUNS)) * 1000
            say(f"service ready after +{delay:4d} ms: Ready follows within {follows:5.0f} ms\n")


if __name__ == "__main__":
    main()

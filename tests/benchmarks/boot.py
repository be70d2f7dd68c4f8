"""How long a boot with nothing to install takes, against its own critical path.

Run ``python tests/benchmarks/boot.py``. Boots the simulation several times from command to Ready,
and measures in the same run what can't be had faster: the orchestrator's imports, then the service
and the worker, each started alone. Prints medians, the ratio, and how soon Ready follows the
service's readiness when that is delayed.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from machine_lifecycle.system.network import free_port
from tests.support.outside import Outside, subreaper

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
        for delay in DELAYS:
            follows = statistics.median(boot(delay)[1] for _ in range(RUNS)) * 1000
            say(f"service ready after +{delay:4d} ms: Ready follows within {follows:5.0f} ms\n")


if __name__ == "__main__":
    main()

"""How fast processes are started, brought back and stopped, beside a bare loop in the same run.

Run it as a program; it prints medians and their ratio to a loop of ``os.posix_spawn`` and pidfds,
which does nothing but the system calls. Compare the ratios: the times depend on the machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, ProcessSpec, RestartPolicy, Role
from machine_lifecycle.supervisor import Supervisor

COUNT = 64
ROUNDS = 5
ARGV = ("sleep", "1000")
ENV = {"PATH": os.environ["PATH"]}  # noqa: TID251 - a program of its own
Times = dict[str, list[float]]


class _Progress:
    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Nobody looks."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Nobody looks."""


def bare(times: Times) -> None:
    """The system calls alone."""
    program = shutil.which(ARGV[0]) or ARGV[0]

    def spawn() -> int:
        return os.posix_spawn(program, ARGV, ENV, setsid=True)

    began = time.perf_counter()
    pids = [spawn() for _ in range(COUNT)]
    times["start"].append(time.perf_counter() - began)

    began = time.perf_counter()
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)
    pids[0] = spawn()
    times["restart"].append(time.perf_counter() - began)

    began = time.perf_counter()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    for pid in pids:
        os.waitpid(pid, 0)
    times["stop"].append(time.perf_counter() - began)


async def ours(times: Times) -> None:
    """The same by the supervisor: with logs, journal, readiness, sweeps."""
    with tempfile.TemporaryDirectory(prefix="ml-") as folder:
        back = asyncio.Event()
        supervisor = Supervisor(
            paths=Paths(workspace=Path(folder), runtime=Path(folder)),
            base_env=ENV,
            secrets=lambda _: None,
            on_change=lambda status: back.set() if status.restarts and status.ready else None,
            on_fatal=lambda *_: None,
            on_needs=lambda *_: None,
        )
        specs = [
            ProcessSpec(
                name=f"p{number}",
                role=Role.SERVICE,
                command=Command(argv=ARGV),
                restart=RestartPolicy(backoff=0),
            )
            for number in range(COUNT)
        ]
        began = time.perf_counter()
        await supervisor.launch(specs)
        await supervisor.wait_ready([spec.name for spec in specs], _Progress())
        times["start"].append(time.perf_counter() - began)

        began = time.perf_counter()
        os.kill(supervisor.statuses()[0].pid or 0, signal.SIGKILL)
        await back.wait()
        times["restart"].append(time.perf_counter() - began)

        began = time.perf_counter()
        await supervisor.stop_all(10)
        times["stop"].append(time.perf_counter() - began)


def peers() -> None:
    """Cold starts of other supervisors that are installed here, the supervisor's own included."""
    if program := shutil.which("pm2"):
        with tempfile.TemporaryDirectory(prefix="ml-") as folder:
            env = {**ENV, "PM2_HOME": folder, "HOME": folder}
            config = Path(folder) / "many.config.js"
            config.write_text(
                f"module.exports={{apps:[...Array({COUNT}).keys()].map(i=>({{name:'p'+i,"
                f"script:'{shutil.which(ARGV[0])}',args:'1000',interpreter:'none'}}))}}"
            )
            began = time.perf_counter()
            subprocess.run([program, "start", str(config)], env=env, check=True, stdout=-3)
            _show("pm2 start", time.perf_counter() - began)
            began = time.perf_counter()
            subprocess.run([program, "kill"], env=env, check=True, stdout=-3)
            _show("pm2 kill", time.perf_counter() - began)
    else:
        sys.stdout.write("pm2: not installed\n")
    if not shutil.which("supervisord"):
        sys.stdout.write("supervisord: not installed\n")


def _show(what: str, seconds: float, ratio: float | None = None) -> None:
    beside = f"   {ratio:5.1f} x the bare loop" if ratio is not None else ""
    sys.stdout.write(f"{what:24} {seconds * 1000:8.1f} ms{beside}\n")


def main() -> None:
    """Measure and print."""
    floor: Times = {"start": [], "restart": [], "stop": []}
    times: Times = {"start": [], "restart": [], "stop": []}
    for _ in range(ROUNDS):
        bare(floor)
        asyncio.run(ours(times))
    labels = {"start": f"start of {COUNT}", "restart": "crash to ready", "stop": f"stop of {COUNT}"}
    for key, label in labels.items():
        low, high = statistics.median(floor[key]), statistics.median(times[key])
        _show(label, high, high / low)
    peers()


if __name__ == "__main__":
    main()

"""A tiny orchestrator on a system without pidfds and without /proc, as macOS is one: a thread waits
for each process, and psutil tells who is who.

Arguments: workspace, runtime folder, and the command line of its one process. It says the number of
that process whenever it is ready, and ends it at SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil  # by this system's own means: it asks for the platform, too

LACKING = (
    (os, "pidfd_open"),
    (signal, "pidfd_send_signal"),
)
for module, name in LACKING:
    if hasattr(module, name):
        delattr(module, name)
REAL, sys.platform = sys.platform, "darwin"

from machine_lifecycle.model.paths import Paths  # noqa: E402 - what is imported asks for all that
from machine_lifecycle.model.processes import (  # noqa: E402 - likewise
    Command,
    ProcessSpec,
    ProcessStatus,
    RestartPolicy,
    Role,
)
from machine_lifecycle.supervisor import Supervisor  # noqa: E402 - likewise
from machine_lifecycle.supervisor.tree import FAST  # noqa: E402 - likewise

sys.platform = REAL


async def main() -> None:
    workspace, runtime, *argv = sys.argv[1:]
    told: list[int] = []

    def tell(status: ProcessStatus) -> None:
        if status.ready and status.pid and told[-1:] != [status.pid]:
            told.append(status.pid)
            sys.stdout.write(f"{status.pid}\n")
            sys.stdout.flush()

    supervisor = Supervisor(
        paths=Paths(workspace=Path(workspace), runtime=Path(runtime)),
        base_env={"PATH": os.environ["PATH"]},  # noqa: TID251 - a program of its own
        on_change=tell,
        guest=True,
    )
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    spec = ProcessSpec(
        name="forks",
        role=Role.SERVICE,
        command=Command(argv=tuple(argv)),
        restart=RestartPolicy(backoff=0.01, jitter=0),
    )
    await supervisor.launch([spec])
    await end.wait()
    await supervisor.stop_all(1)


if __name__ == "__main__":
    assert not FAST
    assert psutil.LINUX or sys.platform != "linux"
    asyncio.run(main())

"""Keep two processes of your own running, without the rest of machine_lifecycle.

``server`` is a web server; ``client`` starts when that answers. Run it, kill either, and look; the
first Ctrl-C stops both. With ``--once`` it kills the server itself, waits until all is well again,
and stops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from machine_lifecycle.supervisor import (
    Command,
    HttpReady,
    Paths,
    ProcessSpec,
    ProcessStatus,
    RestartPolicy,
    Role,
    Supervisor,
)
from machine_lifecycle.system.network import free_port


async def main() -> None:
    """Launch both, wait until they are ready, and stop them at the end."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="two-"))
    back = asyncio.Event()

    def show(status: ProcessStatus) -> None:
        if status.restarts:
            back.set()
        ended = f", before: {status.last_exit.reason}" if status.last_exit else ""
        print(status.name, status.state.value, f"pid {status.pid}{ended}", flush=True)

    specs = [
        ProcessSpec(
            name="server",
            role=Role.SERVICE,
            command=Command(
                argv=(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
            ),
            port=port,
            readiness=(HttpReady(path="/"),),
            restart=RestartPolicy(backoff=0.1),
        ),
        ProcessSpec(
            name="client",
            role=Role.WORKER,
            command=Command(argv=(sys.executable, "-c", "import signal; signal.pause()")),
            needs=("server",),
        ),
    ]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(
        paths=Paths(workspace=folder, runtime=folder),
        base_env=dict(os.environ),
        on_change=show,
        on_fatal=lambda spec, error: print(spec.name, "given up:", error, flush=True),
    )
    await supervisor.launch(specs)
    try:
        await supervisor.wait_ready(["server", "client"])
        if "--once" in sys.argv:
            os.kill(supervisor.statuses()[0].pid or 0, signal.SIGKILL)
            await back.wait()
            await supervisor.wait_ready(["server", "client"])
        else:
            await stop.wait()
    finally:
        await supervisor.stop_all(10)
    print("all stopped", flush=True)


asyncio.run(main())

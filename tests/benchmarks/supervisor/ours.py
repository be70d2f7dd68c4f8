"""Our supervisor as a program: N children, until SIGTERM. Arguments: folder, argv before the name,
names. Says on its output when it called ``launch`` and how long it took to adopt.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, ProcessSpec, RestartPolicy, Role
from machine_lifecycle.supervisor import Supervisor
from machine_lifecycle.system.files import write_atomically

FOLDER, CHILD, MODE, COUNT = sys.argv[1:5]
SAID = Path(FOLDER, "said.json")


async def main() -> None:
    """Launch, wait, stop."""
    supervisor = Supervisor(
        paths=Paths(workspace=Path(FOLDER), runtime=Path(FOLDER)),
        base_env={"PATH": os.environ["PATH"]},  # noqa: TID251 - a program of its own
        secrets=lambda _: None,
        on_change=lambda _: None,
        on_fatal=lambda *_: None,
        on_needs=lambda *_: None,
    )
    specs = [
        ProcessSpec(
            name=f"p{number}",
            role=Role.SERVICE,
            command=Command(argv=(CHILD, MODE, f"p{number}")),
            restart=RestartPolicy(backoff=0, budget=1000),
        )
        for number in range(int(COUNT))
    ]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    began = time.monotonic_ns()
    adopted = await supervisor.recover(specs)
    recovered = time.monotonic_ns()
    await supervisor.launch(specs)
    said = {"began": began, "recovered": recovered, "adopted": len(adopted)}
    write_atomically(SAID, json.dumps(said), 0o600)
    await ended.wait()
    await supervisor.stop_all(10)


asyncio.run(main())

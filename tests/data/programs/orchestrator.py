"""A tiny orchestrator: supervises the processes below until somebody kills it.

Arguments: workspace and runtime folder. Prints the processes' numbers when all are ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import (
    Command,
    LogReady,
    NotifyReady,
    ProcessSpec,
    RestartPolicy,
    Role,
)
from machine_lifecycle.supervisor import Supervisor

SERVICE = str(Path(__file__).with_name("service.py"))


def specs(workspace: Path) -> list[ProcessSpec]:
    """Three processes; the last starts a grandchild in a session of its own."""
    fast = RestartPolicy(backoff=0.01, jitter=0)
    started = (LogReady(pattern="^started$"),)
    return [
        ProcessSpec(
            name=name,
            role=Role.SERVICE,
            command=Command(argv=(sys.executable, SERVICE, *arguments)),
            readiness=readiness,
            restart=fast,
        )
        for name, arguments, readiness in (
            ("quiet", (), started),
            ("notifies", ("--notify",), (NotifyReady(),)),
            ("forks", (f"--grandchild={workspace / 'grandchild'}",), started),
        )
    ]


class _Progress:
    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Nobody looks."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Nobody looks."""


async def main() -> None:
    paths = Paths(workspace=Path(sys.argv[1]), runtime=Path(sys.argv[2]))
    supervisor = Supervisor(
        paths=paths,
        base_env={"PATH": os.environ["PATH"]},  # noqa: TID251 - a program of its own
        secrets=lambda _: None,
        on_change=lambda _: None,
        on_fatal=lambda *_: None,
        on_needs=lambda *_: None,
    )
    wanted = specs(paths.workspace)
    await supervisor.launch(wanted)
    await supervisor.wait_ready([spec.name for spec in wanted], _Progress())
    sys.stdout.write(json.dumps({s.name: s.pid for s in supervisor.statuses()}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""Give the number of an ended child to a stranger, and see what the supervisor does to it.

Runs as root in a process namespace of its own. Arguments: workspace and runtime folder.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, ProcessSpec, RestartPolicy, RestartWhen, Role
from machine_lifecycle.supervisor import Supervisor
from machine_lifecycle.supervisor.identity import boot_mark, identify
from machine_lifecycle.supervisor.journal import Entry, Journal

LAST = Path("/proc/sys/kernel/ns_last_pid")
PATHS = Paths(workspace=Path(sys.argv[1]), runtime=Path(sys.argv[2]))
ENV = {"PATH": os.environ["PATH"]}  # noqa: TID251 - a program of its own


def supervisor(over: asyncio.Event) -> Supervisor:
    return Supervisor(
        paths=PATHS,
        base_env=ENV,
        secrets=lambda _: None,
        on_change=lambda status: None if status.pid else over.set(),
        on_fatal=lambda *_: None,
        on_needs=lambda *_: None,
        guest=True,
    )


def stranger(number: int) -> subprocess.Popen[bytes]:
    """One with this number, which has a child of its own."""
    LAST.write_text(str(number - 1))
    script = "sleep 1000 & echo $!; wait"
    child = subprocess.Popen(
        ["/bin/sh", "-c", script], env=ENV, stdout=subprocess.PIPE, start_new_session=True
    )
    if child.pid != number:
        raise SystemExit(f"got {child.pid}, not {number}")
    return child


async def main() -> None:
    over = asyncio.Event()
    first = supervisor(over)
    spec = ProcessSpec(
        name="ours",
        role=Role.SERVICE,
        command=Command(argv=("sleep", "1000")),
        restart=RestartPolicy(when=RestartWhen.NEVER),
    )
    await first.launch([spec])
    number = first.statuses()[0].pid or 0
    child = first._roster.units["ours"].child  # to call it late, as a task might
    if child is None:
        raise SystemExit("it does not run")
    os.kill(number, signal.SIGKILL)
    await child.ended
    await over.wait()
    other = stranger(number)
    grandchild = int(other.stdout.readline()) if other.stdout else 0
    child.kill()
    await child.end(signal.SIGTERM, 0.1)
    await first.stop("ours")
    first.kill_all()
    await first.stop_all(1)

    # The journal of a run that was killed knows the number, and when its process was created.
    entry = Entry(name="ours", token=child.token, pid=number, created=1, boot=boot_mark())
    Journal(PATHS.journal).write({"ours": entry})
    second = supervisor(over)
    await second.recover([spec])
    await second.stop_all(1)
    if other.poll() is None and identify(grandchild):
        sys.stdout.write("same number, still alive\n")
    other.kill()
    os.kill(grandchild, signal.SIGKILL)


asyncio.run(main())

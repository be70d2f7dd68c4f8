"""What people may ask of the machine while it changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, cast

from machine_lifecycle.assembly.commands import Commands
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role


class _Parts:
    """What changes on the event loop, and in which thread it was read."""

    def __init__(self, log: Path) -> None:
        self.read_in: set[threading.Thread] = set()
        self.log = log
        self.hardware = Hardware()
        self.processes = (
            ProcessStatus(
                name="me", role=Role.SUPPORT, state=ProcessState.RUNNING, pid=os.getpid(), since=0.0
            ),
        )

    def report(self) -> _Parts:
        self.read_in.add(threading.current_thread())
        return self

    def log_paths(self) -> dict[str, Path]:
        self.read_in.add(threading.current_thread())
        return {"me": self.log}


async def test_what_changes_on_the_event_loop_is_read_there_alone(tmp_path: Path) -> None:
    log = tmp_path / "me.log"
    log.write_text("one\ntwo\n", encoding="utf-8")
    parts = cast("Any", _Parts(log))
    commands = Commands(reporter=parts, supervisor=parts, bus=parts, fleet=parts, machine=parts)
    assert (await commands.figures())[os.getpid()].memory_bytes > 0
    assert await commands.tail("me", 1) == ["two"]
    assert parts.read_in == {threading.current_thread()}

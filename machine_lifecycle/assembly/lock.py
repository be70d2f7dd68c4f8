"""One orchestrator per machine, by a lock that ends with its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from filelock import FileLock, Timeout

from machine_lifecycle.assembly.errors import MachineAlreadyRunning
from machine_lifecycle.model.paths import Paths

__all__ = ["machine_lock"]


@contextlib.contextmanager
def machine_lock(paths: Paths) -> Iterator[None]:
    """Hold the machine's lock.

    Raises:
        MachineAlreadyRunning: Another process holds it.
    """
    lock = FileLock(paths.lock, timeout=0, mode=0o600)
    holder = paths.lock.with_suffix(".pid")
    try:
        lock.acquire()
    except Timeout as error:
        with contextlib.suppress(OSError, ValueError):
            pid = int(holder.read_text(encoding="ascii"))
            raise MachineAlreadyRunning(workspace=paths.workspace, pid=pid) from error
        raise MachineAlreadyRunning(workspace=paths.workspace) from error
    try:
        holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()

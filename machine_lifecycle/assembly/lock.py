"""One orchestrator per machine, by locks that end with its process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from machine_lifecycle.assembly.errors import MachineAlreadyRunning
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.system.files import write_atomically

__all__ = ["machine_lock"]

_log = logging.getLogger("machine_lifecycle.machine")


@contextlib.contextmanager
def machine_lock(paths: Paths) -> Iterator[None]:
    """Hold the machine's locks: one in the runtime folder, one in the workspace.

    The second keeps out those who share the workspace and not the runtime folder: another
    container with the same volume. Both are the kernel's (``flock``), so a kill leaves none behind.

    Raises:
        MachineAlreadyRunning: Another process holds one.
    """
    with _held(paths.lock, paths), _workspace_lock(paths):
        yield


@contextlib.contextmanager
def _workspace_lock(paths: Paths) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(paths.workspace_lock, paths))
        except OSError as error:  # some network folders have no locks
            _log.warning(
                "%s can't be locked (%s): let no other machine use this workspace",
                paths.workspace,
                error.strerror or error,
            )
        yield


@contextlib.contextmanager
def _held(path: Path, paths: Paths) -> Iterator[None]:
    lock = FileLock(path, timeout=0, mode=0o600, fallback_to_soft=False)
    holder = path.with_suffix(".json")
    try:
        lock.acquire()
    except Timeout as error:
        raise _refused(holder, paths) from error
    try:
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "runtime": str(paths.runtime)}
        write_atomically(holder, json.dumps(facts), mode=0o600)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _refused(holder: Path, paths: Paths) -> MachineAlreadyRunning:
    """The error, with what the holder wrote down of itself."""
    facts: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        facts = dict(json.loads(holder.read_text(encoding="utf-8")))
    pid, host = facts.get("pid"), str(facts.get("host", ""))
    runtime = str(facts.get("runtime", ""))
    return MachineAlreadyRunning(
        workspace=paths.workspace,
        pid=pid if isinstance(pid, int) else 0,
        host="" if host == socket.gethostname() else host,
        runtime=Path(runtime) if runtime and Path(runtime) != paths.runtime else None,
    )

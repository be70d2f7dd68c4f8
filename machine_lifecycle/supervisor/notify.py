"""The receiving end of the sd_notify protocol: ``READY=1``, ``STATUS=…``, ``WATCHDOG=1``.

One datagram socket per process that speaks it, at a path that stays the same, so that a process
can go on speaking to a later orchestrator.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["NotifySocket", "notify_path"]

_LARGEST = 65536


def notify_path(runtime: Path, name: str) -> Path:
    """The socket of a process. Its name is short: a socket's path ends at 107 bytes."""
    return runtime / f"n-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


class NotifySocket:
    """Listens to one process.

    Attributes:
        status: What the process last said of itself.
        watchdog: When it last said that it is alive, wall-clock seconds; ``None`` for never.
    """

    def __init__(self, path: Path, on_ready: Callable[[], None]) -> None:
        self.path = path
        self.status = ""
        self.watchdog: float | None = None
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.settimeout(0)
            self._socket.bind(str(path))
            os.chmod(path, 0o600)  # noqa: PTH101 - of a socket
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket.fileno(), self._receive)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(_LARGEST).decode("utf-8", "replace").split("\n"):
                    self._take(line)

    def _take(self, line: str) -> None:
        key, _, value = line.partition("=")
        if key == "READY" and value == "1":
            self._on_ready()
        elif key == "STATUS":
            self.status = value
        elif key == "WATCHDOG" and value == "1":
            self.watchdog = time.time()

    def close(self) -> None:
        """Stop to listen."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self.path.unlink(missing_ok=True)

"""The receiving end of the sd_notify protocol: ``READY=1``, ``STATUS=…``, ``WATCHDOG=1``.

One datagram socket per process that speaks it, at a path that stays the same, so that a process
can go on speaking to a later orchestrator. The kernel says with each datagram who sent it (Linux:
SCM_CREDENTIALS); what comes from outside the process's tree is not heard. A sender must live until
it is read, as with systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["NotifySocket", "notify_path"]

_LARGEST = 65536
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (man 7 unix)
_PASS_CREDENTIALS = getattr(socket, "SO_PASSCRED", None)
_log = logging.getLogger(__name__)


def notify_path(runtime: Path, name: str) -> Path:
    """The socket of a process. Its name is short: a socket's path ends at 107 bytes."""
    return runtime / f"n-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


class NotifySocket:
    """Listens to one process.

    Attributes:
        status: What the process last said of itself.
        beaten: When it last said that it lives, on the loop's clock; 0 for never.
        triggered: Set when it said itself that it is hung (``WATCHDOG=trigger``).
        interval: Seconds that it asked for between beats (``WATCHDOG_USEC=``); ``None`` if it did
            not.
        refused: Datagrams of strangers.
    """

    def __init__(
        self, path: Path, on_ready: Callable[[], None], belongs: Callable[[int], bool]
    ) -> None:
        """Listen.

        Args:
            path: The socket's.
            on_ready: Called at ``READY=1``.
            belongs: Whether a process number is of the tree that may speak here.
        """
        self.path = path
        self.refused: int = 0
        self._on_ready = on_ready
        self._belongs = belongs
        self._loop = asyncio.get_running_loop()
        self.begin_anew()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.settimeout(0)
            if _PASS_CREDENTIALS is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, _PASS_CREDENTIALS, 1)
            self._socket.bind(str(path))
            os.chmod(path, 0o600)  # noqa: PTH101 - of a socket
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket.fileno(), self.receive)

    def begin_anew(self) -> None:
        """Forget what the process before said."""
        self.status: str = ""
        self.beaten: float = 0.0
        self.triggered: asyncio.Event = asyncio.Event()
        self.interval: float | None = None

    def receive(self) -> None:
        """Take what has been said. Called by the loop, and before somebody judges a silence."""
        # Room for who sent it and for nothing else: file descriptors that come along are closed by
        # the kernel, which is also how ``systemd-notify`` learns that it was heard (BARRIER=1).
        room = socket.CMSG_SPACE(_CREDENTIALS.size)
        with contextlib.suppress(BlockingIOError):
            while True:
                data, extra, _, _ = self._socket.recvmsg(_LARGEST, room)
                if self._may_speak(extra):
                    for line in data.decode("utf-8", "replace").split("\n"):
                        self._take(line)

    def _may_speak(self, extra: list[tuple[int, int, bytes]]) -> bool:
        if _PASS_CREDENTIALS is None:
            return True  # the socket's mode alone decides
        for level, kind, value in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, _, _ = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])
                if self._belongs(pid):
                    return True
                self.refused += 1
                _log.warning("%s: process %d is no part of it, and is not heard", self.path, pid)
        return False

    def _take(self, line: str) -> None:
        key, _, value = line.partition("=")
        if key == "READY" and value == "1":
            self._on_ready()
        elif key == "STATUS":
            self.status = value
        elif key == "WATCHDOG":
            self.beaten = self._loop.time()
            if value == "trigger":
                self.triggered.set()
        elif key == "WATCHDOG_USEC" and value.isascii() and value.isdigit() and int(value):
            self.interval = int(value) / 1e6

    async def missed(self, interval: float) -> str:
        """Return, with the reason, when no beat has come for so many seconds from now on."""
        beaten = self._loop.time()
        while True:
            self.receive()  # our own loop may have been held up, and the beats are all there
            beaten = max(beaten, self.beaten)
            longest = self.interval or interval
            left = beaten + longest - self._loop.time()
            if left <= 0:
                return f"watchdog: no word for {longest:g} s"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.triggered.wait()
                    return "watchdog: it said that it hangs"

    def close(self) -> None:
        """Stop to listen."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self.path.unlink(missing_ok=True)

"""Learn of a process's end from the kernel, without polling.

On Linux a pidfd becomes readable when its process ends, whoever its parent is. Elsewhere one
thread waits per process; for a process that isn't our child it is psutil that waits.

A process that isn't our child has no exit status for us, except where the kernel (Linux 6.15 and
later) keeps it behind the pidfd: see ``foreign_status``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterable

from machine_lifecycle.supervisor.identity import Identity, alive, read_stat

__all__ = ["ExitWatch", "foreign_status", "gone"]

_PIDFDS = hasattr(os, "pidfd_open")
# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info) of 64 bytes; PIDFD_INFO_EXIT.
_PIDFD_GET_INFO = 0xC040FF0B
_UNREAPED = 0.5  # seconds between looks for such a one
_INFO_EXIT = 1 << 3
_INFO = struct.Struct("=QQ11Ii")


class ExitWatch:
    """Calls back on the event loop, once, when a process has ended. It doesn't reap."""

    def __init__(self, pid: int, on_exit: Callable[[], None], *, use_thread: bool = False) -> None:
        """Start to watch.

        Args:
            pid: A process that was identified just before, or a child not yet reaped.
            on_exit: Called without arguments.
            use_thread: Wait in a thread even where there are pidfds.

        Raises:
            ProcessLookupError: There is no such process.
        """
        self._loop = asyncio.get_running_loop()
        self._on_exit: Callable[[], None] | None = on_exit
        self.handle: int = -1
        if _PIDFDS and not use_thread:
            self.handle = os.pidfd_open(pid)
            self._loop.add_reader(self.handle, self._ended)
        else:
            threading.Thread(
                target=self._wait, args=(pid,), name=f"wait-{pid}", daemon=True
            ).start()

    def _wait(self, pid: int) -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            import psutil  # noqa: PLC0415 - heavy, and rarely needed

            # psutil waits on for one that has ended and that its parent doesn't reap.
            first = read_stat(pid)
            while (
                first and (now := read_stat(pid)) and not now.dead and now.created == first.created
            ):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                    psutil.Process(pid).wait(_UNREAPED)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        if self.handle >= 0:
            self._loop.remove_reader(self.handle)
        callback, self._on_exit = self._on_exit, None
        if callback is not None:
            callback()

    def close(self) -> None:
        """Stop to watch. Safe to call twice."""
        self._on_exit = None
        if self.handle >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self.handle)
            os.close(self.handle)
            self.handle = -1


def foreign_status(handle: int) -> int | None:
    """The wait status of an ended process that another parent reaped; ``None`` if not to be had.

    Args:
        handle: A pidfd that was opened while the process lived.
    """
    if sys.platform != "linux":
        return None
    import fcntl  # noqa: PLC0415 - Unix only

    buffer = bytearray(_INFO.pack(_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(handle, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None  # an older kernel, or not reaped yet
    values = _INFO.unpack(buffer)
    return int(values[-1]) if values[0] & _INFO_EXIT else None


async def gone(identities: Iterable[Identity], seconds: float) -> bool:
    """Wait until all these processes have ended, at most so long; whether they have."""
    watches: list[ExitWatch] = []
    waits: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()
    try:
        for identity in identities:
            if not alive(identity):
                continue
            future: asyncio.Future[None] = loop.create_future()
            try:
                watches.append(ExitWatch(identity.pid, lambda f=future: f.set_result(None)))  # type: ignore[misc]  # a bound default
            except ProcessLookupError:
                continue
            if alive(identity):  # else it ended before the watch, and may even be someone new
                waits.append(future)
        if not waits:
            return True
        _, pending = await asyncio.wait(waits, timeout=max(0.0, seconds))
        return not pending
    finally:
        for watch in watches:
            watch.close()

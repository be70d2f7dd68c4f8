"""Whether a process that listens on this host works, though it says nothing.

Told by what it uses: processor time, and bytes that it reads and writes. A thread that computes,
that waits for a GPU (CUDA spins), that loads a model or downloads one, uses some of these all the
time; one that has ended uses none.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time

import attrs
import psutil

__all__ = ["Effort", "effort_of", "is_local"]

_PROCESSOR_SHARE = 0.05
"""Of one processor. An idle ComfyUI was seen to use 0.002 of one."""
_BYTES_PER_SECOND = 32 * 1024
"""Far below any download or any disk, far above the pages that we ask for."""


def is_local(host: str) -> bool:
    """Whether the name or address is this host's loopback."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


@attrs.frozen(kw_only=True)
class Effort:
    """What a process and all its children have used up to now.

    Attributes:
        at: Seconds on the monotonic clock.
        processor: Processor seconds.
        moved: Bytes read and written, where the system tells them.
    """

    at: float
    processor: float
    moved: int

    def works_since(self, before: Effort) -> bool:
        """Whether more was used since an earlier look than a process uses that has nothing to do.

        What ended meanwhile takes its figures away; that counts as nothing.
        """
        seconds = max(self.at - before.at, 1e-3)
        return (
            self.processor - before.processor > _PROCESSOR_SHARE * seconds
            or self.moved - before.moved > _BYTES_PER_SECOND * seconds
        )


def effort_of(port: int) -> Effort | None:
    """What the process that listens on *port* of this host has used, with its children.

    ``None`` if nobody listens, if it is this very process, or if the system does not let us see.
    Blocks for some milliseconds: it looks at every socket.
    """
    try:
        pid = next(
            (
                connection.pid
                for connection in psutil.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            ),
            None,
        )
        if pid is None or pid == psutil.Process().pid:
            return None
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except (psutil.Error, OSError):
        return None
    processor, moved = 0.0, 0
    for process in tree:
        with contextlib.suppress(psutil.Error, OSError):
            times = process.cpu_times()
            processor += times.user + times.system
        with contextlib.suppress(psutil.Error, OSError, AttributeError):  # macOS has none
            used = process.io_counters()
            moved += used.read_chars + used.write_chars
    return Effort(at=time.monotonic(), processor=processor, moved=moved)

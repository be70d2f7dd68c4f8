"""Who a process is: its number, when it was created, and the boot it belongs to.

Numbers are reused by the kernel, so a number alone never decides whether a signal is sent. On
Linux the time of creation is read from ``/proc/PID/stat`` (field 22, clock ticks since boot): it
doesn't move when the wall clock is set, which psutil's ``create_time`` does.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path

import attrs

__all__ = ["Identity", "Stat", "alive", "boot_mark", "identify", "read_proc", "read_stat", "send"]

_BLOCK = 65536
_LINUX = sys.platform == "linux"
_PIDFDS = hasattr(os, "pidfd_open")


@attrs.frozen
class Identity:
    """One process that can't be mistaken for another.

    Attributes:
        pid: Its number.
        created: When it was created, in a unit of the platform: compared, never shown.
        boot: ``boot_mark()`` of the system it ran on.
    """

    pid: int
    created: int
    boot: str


@attrs.frozen
class Stat:
    """What the kernel says of one process.

    Attributes:
        dead: Whether it has ended, with all its threads, and only waits to be reaped. One whose
            first thread has ended looks like that, and may have its files and ports still.
    """

    pid: int
    ppid: int
    group: int
    session: int
    created: int
    dead: bool


@functools.cache
def boot_mark() -> str:
    """Names this boot of this system, and the process namespace within it."""
    if _LINUX:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    import psutil  # noqa: PLC0415 - heavy, and not needed on Linux

    return str(int(psutil.boot_time()))


def read_proc(path: str) -> bytes:
    """All of a file of the kernel's. Python's own file objects cost three times as much."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(handle, _BLOCK)]
        while parts[-1]:
            parts.append(os.read(handle, _BLOCK))
        return b"".join(parts)
    finally:
        os.close(handle)


def read_stat(pid: int) -> Stat | None:
    """What the kernel says of *pid*; ``None`` if there is no such process."""
    if not _LINUX:
        return _read_psutil(pid)
    try:
        text = read_proc(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, so fields count from the last parenthesis.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        created=int(fields[19]),
        dead=fields[0] in (b"Z", b"X") and int(fields[17]) <= 1,
    )


def _read_psutil(pid: int) -> Stat | None:
    import psutil  # noqa: PLC0415 - heavy, and not needed on Linux

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Stat(
                pid=pid,
                ppid=process.ppid(),
                group=os.getpgid(pid),
                session=os.getsid(pid),
                created=int(process.create_time() * 1_000_000),
                dead=process.status() == psutil.STATUS_ZOMBIE,
            )
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def identify(pid: int) -> Identity | None:
    """The identity of the process that has this number now, dead or alive."""
    stat = read_stat(pid)
    return Identity(pid, stat.created, boot_mark()) if stat else None


def alive(identity: Identity) -> bool:
    """Whether this very process still runs."""
    if identity.boot != boot_mark():
        return False
    stat = read_stat(identity.pid)
    return stat is not None and stat.created == identity.created and not stat.dead


def send(identity: Identity, number: int) -> bool:
    """Send a signal to this very process and no other; whether it was there.

    Where the kernel has pidfds, one is opened first and the identity is compared after, so that
    the number can't change hands in between.
    """
    try:
        if not _PIDFDS:
            if not alive(identity):
                return False
            os.kill(identity.pid, number)
            return True
        handle = os.pidfd_open(identity.pid)
        try:
            if not alive(identity):
                return False
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
    except ProcessLookupError:
        return False
    return True

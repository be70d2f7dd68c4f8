"""One at a time among machines that share a folder."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from machine_lifecycle.model.text import human_bytes, human_seconds

__all__ = ["held", "size_of"]

_log = logging.getLogger(__name__)

_SOON, _LOOK = 0.02, 1.0
"""Seconds between two looks at a lock that somebody else holds, at first and after a while: no
event tells of its end."""
_SPEAK = 30.0
"""Seconds between two words of a wait."""


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _written(path: Path) -> tuple[int, int]:
    """Bytes of a file that are written, which may have its whole size already, and when (ns)."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return min(found.st_size, found.st_blocks * 512), found.st_mtime_ns  # blocks as POSIX counts


@contextlib.asynccontextmanager
async def held(
    lock: Path, report: Callable[[str], None], *, what: str, watched: Path | None = None
) -> AsyncIterator[int]:
    """Hold a lock that other machines take too; it is the kernel's, so a kill leaves none behind.

    Args:
        lock: Its file.
        report: Takes a line, for people: while it is waited for.
        what: Who else may hold it, and what for: ``another machine installs it``.
        watched: A file that such a one writes: only that it grows is told as progress.

    Yields:
        The descriptor: a program that inherits it holds the lock too, be its parent killed.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        await _taken(descriptor, lock, report, what, watched)
        yield descriptor
        # A program that inherited the descriptor must not hold it on: whoever is next goes on.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@functools.cache
def _warn(folder: Path, why: str) -> None:
    """Once, and not for each file."""
    _log.warning("nothing in %s can be locked: %s", folder, why)


async def _taken(
    descriptor: int, lock: Path, report: Callable[[str], None], what: str, watched: Path | None
) -> None:
    began = time.monotonic()
    spoke, said, look = -_SPEAK, (-1, 0), _SOON
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
            written = _written(watched) if watched else (0, 0)
            if watched and written != said:
                said = written
                report(f"{what}: {human_bytes(written[0])} so far")
            elif not watched and waited >= _LOOK and waited - spoke >= _SPEAK:
                spoke = waited
                report(f"{what}; waited for it {human_seconds(waited)}")
            await asyncio.sleep(look)
            look = min(2 * look, _LOOK)
        except OSError as error:  # some network folders have no locks
            _warn(lock.parent, error.strerror or str(error))
            return
        else:
            return

"""Read the processes' log files: the last lines, and new lines as they come.

The processes write to their files themselves; this module only reads. A file offers no event to an
event loop, so while somebody follows one, its size is looked at ten times a second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

__all__ = ["Follower", "follow", "rotate", "size", "tail"]

_BLOCK = 65536
_INTERVAL = 0.1
_LONGEST_LINE = 1 << 20


def size(path: Path) -> int:
    """Bytes in the file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last *lines* lines of a file, without reading the rest; none if it is not there."""
    if lines <= 0:
        return ()
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            data = b""
            while end > 0 and data.count(b"\n") <= lines and len(data) < _LONGEST_LINE * 8:
                step = min(_BLOCK, end)
                end -= step
                file.seek(end)
                data = file.read(step) + data
    except FileNotFoundError:
        return ()
    return tuple(line.decode("utf-8", "replace") for line in data.splitlines()[-lines:])


def rotate(path: Path, limit: int = 64 << 20) -> None:
    """Put a file aside as ``NAME.1`` if it has more than *limit* bytes (64 MiB). Done between two
    runs only: a running process holds its file open.
    """
    if size(path) > limit:
        path.replace(path.with_name(path.name + ".1"))


class Follower:
    """Complete lines that are added to one file. Survives truncation and replacement."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._inode = 0
        self._rest = b""

    def read(self) -> list[bytes]:
        """Lines since the last call, without their ends."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return []
        if stat.st_size < self._offset or (self._inode and stat.st_ino != self._inode):
            self._offset, self._rest = 0, b""
        self._inode = stat.st_ino
        if stat.st_size == self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(_LONGEST_LINE)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:  # a program that never ends its line
            lines, self._rest = [*lines, self._rest], b""
        return lines


async def follow(
    paths: Mapping[str, Path], *, lines: int = 0, forever: bool = True
) -> AsyncIterator[tuple[str, bytes]]:
    """Lines of several logs as (name, line): the last *lines* of each, then new ones as they come.

    Args:
        paths: Log files by process name.
        lines: How many of the old ones.
        forever: Whether to wait for new ones.
    """
    followers = {name: Follower(path, size(path)) for name, path in paths.items()}
    for name, path in paths.items():
        for line in tail(path, lines):
            yield name, line.encode()
    while forever:
        quiet = True
        for name, follower in followers.items():
            for data in follower.read():
                quiet = False
                yield name, data
        if quiet:
            await asyncio.sleep(_INTERVAL)

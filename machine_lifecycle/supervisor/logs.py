"""Read the processes' logs: the last lines, those since a time, new ones as they come.

The processes write to their files themselves; this module only reads. A log is its archives, oldest
first, and the file that is being written, which may begin with a hole (see ``rotation``). A file
offers no event to an event loop, so while somebody follows one, its size is looked at ten times a
second.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import os
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import attrs

from machine_lifecycle.supervisor.marks import Marks, read_marks
from machine_lifecycle.supervisor.rotation import archives, data_start, line_end, measure

__all__ = ["Follower", "Line", "follow", "size", "stored", "tail"]

_BLOCK = 65536
_INTERVAL = 0.1
"""Seconds between two looks at logs that are followed: a file tells nobody that it grew."""
_LONGEST_LINE = 1 << 20
_ALL = 1 << 62
_TURN = 500  # lines that are handed on before others get their turn
_STAMP = re.compile(
    rb'^(?:\{"time": ?"|\[)?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:\d\d))'
)
"""A time with its zone at the head of a line: our own JSON lines, and many programs'."""


@attrs.frozen(order=True)
class Line:
    """One line of a log, without its end.

    Attributes:
        at: When it was written, wall-clock seconds: what the line itself says if it begins with a
            time, else about (see ``marks``).
        name: Of its process.
    """

    at: float
    name: str = attrs.field(order=False)
    data: bytes = attrs.field(order=False)


def size(path: Path) -> int:
    """Bytes in the file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _end_of_lines(path: Path) -> int:
    """Behind the last whole line of a file, as it is now."""
    opened = _open(path, _ALL)
    if opened is None:
        return 0
    file, start, end = opened
    with file:
        return line_end(file.fileno(), start, end)


def _open(path: Path, most: int) -> tuple[BinaryIO, int, int] | None:
    """A part of a log, where its content begins, and where it ends or *most* bytes of it do;
    ``None`` if it has gone.
    """
    try:
        if path.suffix == ".gz":
            import gzip  # noqa: PLC0415 - only where archives are compressed

            with gzip.open(path, "rb") as packed:
                data = packed.read()
            return io.BytesIO(data), 0, len(data)
        file = path.open("rb")
    except FileNotFoundError:
        return None
    end = min(most, os.fstat(file.fileno()).st_size)
    return file, min(end, data_start(file.fileno())), end


def _last_lines(path: Path, lines: int, most: int) -> list[tuple[int, bytes]]:
    """The last lines of one file with their places, without reading the rest."""
    opened = _open(path, most)
    if opened is None:
        return []
    file, start, end = opened
    with file:
        data = b""
        while end > start and data.count(b"\n") <= lines and len(data) < _LONGEST_LINE * 8:
            step = min(_BLOCK, end - start)
            end -= step
            file.seek(end)
            data = file.read(step) + data
    found, place = [], end
    for line in data.split(b"\n"):
        found.append((place, line))
        place += len(line) + 1
    if not found[-1][1]:
        found.pop()
    return found[-lines:]


def tail(path: Path, lines: int, since: int | None = None) -> tuple[str, ...]:
    """The last *lines* lines of a log, archives too, without reading the rest.

    Args:
        path: The log.
        lines: How many at most.
        since: Where in the file the part begins that is meant, that of the last run; archives are
            of that run only if the file was shortened since.
    """
    if lines <= 0 or (since is not None and size(path) <= since):
        return ()
    found = _last_lines(path, lines, _ALL)
    older: tuple[Path, ...] = ()
    if since is not None:
        found = [(place, line) for place, line in found if place >= since]
    if len(found) < lines and (since is None or measure(path).hole > since):
        older = archives(path)
    for part in reversed(older):
        if len(found) < lines:
            found = _last_lines(part, lines - len(found), _ALL) + found
    return tuple(line.decode("utf-8", "replace") for _, line in found)


def _tail(name: str, path: Path, lines: int, most: int) -> list[Line]:
    found: list[Line] = []
    for part in (path, *reversed(archives(path))):
        if len(found) >= lines:
            break
        clock = _clock(part)
        rows = _last_lines(part, lines - len(found), most if part == path else _ALL)
        found = [Line(clock.time_of(place, row), name, row) for place, row in rows] + found
    return found


@attrs.frozen
class _Clock:
    """Tells when the lines of one file were written."""

    marks: Marks
    end: int
    at_end: float

    def time_of(self, place: int, line: bytes) -> float:
        stamp = _STAMP.match(line)
        if stamp:
            try:
                return datetime.fromisoformat(stamp[1].decode().replace(",", ".")).timestamp()
            except ValueError:
                pass  # a 13th month: no time after all
        return self.marks.time_of(place, self.end, self.at_end)


def _clock(path: Path) -> _Clock:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return _Clock(Marks(), 0, 0.0)
    return _Clock(read_marks(path), stat.st_size, stat.st_mtime)


def _since(name: str, path: Path, seconds: float, most: int) -> Iterator[Line]:
    """Everything from a time on, oldest first."""
    latest = 0.0
    parts = [part for part in (*archives(path), path) if _clock(part).at_end >= seconds]
    for part in parts:
        clock = _clock(part)
        opened = _open(part, most if part == path else _ALL)
        if opened is None:
            continue
        file, start, end = opened
        with file:
            place = max(start, clock.marks.offset_at(seconds))
            file.seek(place)
            for row in file:
                if place >= end:
                    break
                latest = max(latest, clock.time_of(place, row))
                place += len(row)
                if latest >= seconds:
                    yield Line(latest, name, row.rstrip(b"\r\n"))


def stored(
    paths: Mapping[str, Path],
    *,
    lines: int = 0,
    since: float | None = None,
    ends: Mapping[str, int] | None = None,
) -> Iterator[Line]:
    """What is in several logs, in the order in which it was written.

    Between two processes that order is right to within some seconds, unless their lines begin with
    the time; within one process it is always right.

    Args:
        paths: Log files by process name.
        lines: How many of the last lines of each; not heeded with
        since: the time from which all lines are wanted, wall-clock seconds.
        ends: Bytes of each file that count; all if not given.
    """
    most = ends or {}
    if since is not None:
        wanted = [_since(name, path, since, most.get(name, _ALL)) for name, path in paths.items()]
    else:
        wanted = [
            _in_order(_tail(name, path, lines, most.get(name, _ALL)))
            for name, path in paths.items()
        ]
    return heapq.merge(*wanted)


def _in_order(found: Iterable[Line]) -> Iterator[Line]:
    """The same lines; one that says an earlier time than the one before it counts as that."""
    latest = 0.0
    for line in found:
        latest = max(latest, line.at)
        yield line if line.at == latest else attrs.evolve(line, at=latest)


class Follower:
    """Complete lines that are added to one log. Survives truncation, rotation and replacement."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._inode = 0
        self._rest = b""

    def read(self) -> list[bytes]:
        """Lines since the last call, without their ends; those of at most 1 MiB at a time."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            stat = os.fstat(file.fileno())
            if self._inode and stat.st_ino != self._inode:
                left = self._of_replaced()
                if left:
                    return left
                self._offset, self._rest = 0, b""
            elif stat.st_size < self._offset:
                self._offset, self._rest = 0, b""
            self._inode = stat.st_ino
            return self._lines(file) if stat.st_size > self._offset else []

    def _of_replaced(self) -> list[bytes]:
        """What the file held that was put aside since the last call, and had not been read."""
        for part in archives(self._path):
            try:
                with part.open("rb") as file:
                    if os.fstat(file.fileno()).st_ino == self._inode:
                        return self._lines(file)
            except FileNotFoundError:
                continue
        return []

    def _lines(self, file: BinaryIO) -> list[bytes]:
        file.seek(self._offset)
        data = file.read(_LONGEST_LINE)
        if data.startswith(b"\0"):  # put aside before it was read
            start = data_start(file.fileno())
            if start > self._offset:
                self._offset, self._rest = start, b""
                file.seek(start)
                data = file.read(_LONGEST_LINE)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:  # a program that never ends its line
            lines, self._rest = [*lines, self._rest], b""
        return lines


async def follow(
    paths: Mapping[str, Path], *, lines: int = 0, since: float | None = None, forever: bool = True
) -> AsyncGenerator[Line, None]:
    """What is in several logs (see ``stored``), then new lines as they come.

    Args:
        paths: Log files by process name.
        lines: How many of the old ones.
        since: Or the time from which they are wanted.
        forever: Whether to wait for new ones.
    """
    ends = {name: _end_of_lines(path) for name, path in paths.items()} if forever else {}
    followers = {name: Follower(paths[name], end) for name, end in ends.items()}
    for number, line in enumerate(stored(paths, lines=lines, since=since, ends=ends)):
        yield line
        if number % _TURN == 0:
            await asyncio.sleep(0)
    while forever:
        quiet = True
        now = datetime.now().timestamp()  # noqa: DTZ005 - seconds have no zone
        for name, follower in followers.items():
            for data in follower.read():
                quiet = False
                yield Line(now, name, data)
        await asyncio.sleep(_INTERVAL if quiet else 0)

"""Keep a log within bounds while its process goes on writing into it.

The process holds its file open for appending, so the file can't be taken away from it. Instead the
old part is copied to an archive, and given back to the disk as a hole (``fallocate`` with
PUNCH_HOLE): the file keeps its length, what the process appends meanwhile is not touched, and no
line is lost. A kill between the two leaves that part twice. Where the file system can't make holes
(NFS before 4.2, 9p, macOS), the file is copied and cut to nothing instead; what is written between
the two, some microseconds, is lost then.

Everything here blocks, and is called in a thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from machine_lifecycle.supervisor.marks import Marks, marks_path, read_marks, write_marks

__all__ = [
    "Extent",
    "LogRules",
    "archives",
    "data_start",
    "line_end",
    "measure",
    "put_aside",
    "shorten",
]

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # include/uapi/linux/falloc.h
_BLOCK = 1 << 20
_CANT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_LONGEST = 16
"""How many times the limit a file may seem to be, for the hole in it, until its process starts
anew: programs that know nothing of holes read it as a whole."""


@attrs.frozen(kw_only=True)
class LogRules:
    """How much of each log is kept.

    Attributes:
        max_bytes: Bytes in the file before they are put aside; 0: nothing ever is.
        archives: Files of at most that size that are kept beside it.
        max_age: Seconds after which what is in the file is put aside, and after which an archive
            is removed; 0: never.
        compress: Whether archives are written as gzip.
    """

    max_bytes: int = 64 << 20
    archives: int = 3
    max_age: float = 0.0
    compress: bool = False


@attrs.frozen
class Extent:
    """How long a log is, in bytes.

    Attributes:
        size: With the hole in it: where the next byte will be written.
        held: Without.
    """

    size: int = 0
    held: int = 0

    @property
    def hole(self) -> int:
        """How much was put aside while it was written."""
        return self.size - self.held


def measure(log: Path) -> Extent:
    """How long it is now; nothing if it isn't there."""
    try:
        handle = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Extent()
    try:
        size = os.fstat(handle).st_size
        return Extent(size, size - data_start(handle))
    finally:
        os.close(handle)


def archives(log: Path) -> tuple[Path, ...]:
    """The archives of a log, oldest first."""
    found = []
    try:
        siblings = os.listdir(log.parent)  # noqa: PTH208 - at each end of a process, among many logs
    except FileNotFoundError:
        return ()
    prefix = f"{log.name}."
    for name in siblings:
        if name.startswith(prefix):
            number = name[len(prefix) :].removesuffix(".gz")
            if number.isdigit():
                found.append((int(number), log.with_name(name)))
    return tuple(path for _, path in sorted(found))


def _next_archive(log: Path, suffix: str) -> Path:
    found = archives(log)
    last = int(found[-1].name[len(log.name) + 1 :].removesuffix(".gz")) if found else 0
    return log.with_name(f"{log.name}.{last + 1}{suffix}")


def data_start(handle: int) -> int:
    """Where a file's content begins, behind the hole that was made in it. The file's length if
    there is nothing else.
    """
    end = os.fstat(handle).st_size
    if not hasattr(os, "SEEK_DATA") or not end:
        return 0
    try:
        place = os.lseek(handle, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole
            return end
        if error.errno in _CANT:
            return 0
        raise
    # A hole ends at a block; the part of that block that was put aside is zeroes.
    while block := os.pread(handle, 65536, place):
        rest = block.lstrip(b"\0")
        if rest:
            return place + len(block) - len(rest)
        place += len(block)
    return end


def _punch(handle: int, end: int) -> bool:
    """Give everything before *end* back to the disk; false where that can't be done."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(
        handle, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(end)
    )
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANT:
        return False
    raise OSError(number, os.strerror(number))


def line_end(handle: int, low: int, high: int) -> int:
    """Behind the last whole line between two places; the higher one if there is none."""
    place = high
    while place > low and high - place < _BLOCK:
        step = min(65536, place - low)
        place -= step
        found = os.pread(handle, step, place).rfind(b"\n")
        if found >= 0:
            return place + found + 1
    return high


def _blocks(handle: int, low: int, high: int) -> Iterator[bytes]:
    while low < high:
        block = os.pread(handle, min(_BLOCK, high - low), low)
        if not block:
            return
        low += len(block)
        yield block


def _archive(
    handle: int, part_of: tuple[int, int], log: Path, rules: LogRules, marks: Marks
) -> None:
    """Copy a part of the log to a new archive, safely on disk when this returns."""
    low, high = part_of
    target = _next_archive(log, ".gz" if rules.compress else "")
    part = log.with_name(f".{log.name}.part")
    try:
        output = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(output, "wb") as file:
            if rules.compress:
                import gzip  # noqa: PLC0415 - only where it is asked for

                with gzip.GzipFile("", "wb", 1, file) as packed:
                    for block in _blocks(handle, low, high):
                        packed.write(block)
            else:
                for block in _blocks(handle, low, high):
                    file.write(block)
            file.flush()
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
        kept = marks.after(low).before(high).moved(low)
        write_marks(target, kept)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    if high < os.fstat(handle).st_size and kept.times:
        os.utime(target, (kept.times[-1], kept.times[-1]))


def _remove(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    marks_path(archive).unlink(missing_ok=True)


def _prune(log: Path, rules: LogRules) -> None:
    """Remove the archives that are too many or too old."""
    found = archives(log)
    surplus = set(found[: max(0, len(found) - rules.archives)])
    for archive in found:
        old = rules.max_age and time.time() - archive.stat().st_mtime > rules.max_age
        if archive in surplus or old:
            _remove(archive)


def put_aside(log: Path, rules: LogRules) -> Extent:
    """Between two runs, when nobody has the file open: it becomes an archive as it is, at once,
    if it is too long. How long the next run's log is.

    Raises:
        OSError: The folder can't be written to.
    """
    extent, most = measure(log), rules.max_bytes
    if not most or (extent.held <= most and extent.size <= most * _LONGEST):
        return extent
    target = _next_archive(log, "")
    log.replace(target)
    if marks_path(log).exists():
        marks_path(log).replace(marks_path(target))
    _prune(log, rules)
    return Extent()


def shorten(log: Path, rules: LogRules) -> bool:
    """Put aside what is too much in a file that is being written; whether no line can be lost.

    What is more than all archives may hold is given back to the disk without being copied: it
    would be the first to go. So a process that writes faster than this copies stays within bounds
    too.

    Raises:
        OSError: The disk is full; the log is as it was.
    """
    handle = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    lossless = True
    try:
        for _ in range(rules.archives + 2):
            start, end = data_start(handle), os.fstat(handle).st_size
            marks = read_marks(log)
            if not _is_due(end - start, start, marks, rules):
                break
            if end - start > rules.max_bytes * (rules.archives + 1):
                too_old = line_end(handle, start, end - rules.max_bytes * rules.archives)
                if _punch(handle, too_old):
                    start = too_old
            cut = line_end(handle, start, min(end, start + rules.max_bytes))
            if rules.archives:
                _archive(handle, (start, cut), log, rules, marks)
            if not _punch(handle, cut):
                _copy_rest_and_truncate(handle, cut, log, rules, marks)
                lossless = False
                cut = 0
            write_marks(log, marks.after(cut) if cut else Marks())
            _prune(log, rules)
    finally:
        os.close(handle)
    return lossless


def _is_due(held: int, start: int, marks: Marks, rules: LogRules) -> bool:
    if not held or not rules.max_bytes:
        return False
    begun = marks.after(start).times[:1]
    aged = bool(rules.max_age and begun and time.time() - begun[0] > rules.max_age)
    return held >= rules.max_bytes or aged


def _copy_rest_and_truncate(
    handle: int, done: int, log: Path, rules: LogRules, marks: Marks
) -> None:
    """Where no hole can be made. The rest is copied first, so that little can come in between."""
    while (end := os.fstat(handle).st_size) > done:
        if rules.archives:
            _archive(handle, (done, end), log, rules, marks)
        done = end
    os.ftruncate(handle, 0)

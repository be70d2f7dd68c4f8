"""See to it that no log outgrows its bounds, without looking at logs that nobody writes.

A quiet log costs nothing: the kernel is asked to tell of the first write to it, once (inotify with
IN_ONESHOT; a watch that told of each would wake us thousands of times a second). From then on its
size is looked at by a timer that all logs share, every 5 s, sooner if it would be full by then,
until it has been quiet for two looks. A look is a thread's, one at a time: a file system that does
not answer holds up no more than that.

So a log holds at most its limit and what its process writes within one look: at most 1 s after it
was quiet, a fifth of a second once it is known to be that fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from machine_lifecycle.supervisor.marks import note
from machine_lifecycle.supervisor.rotation import Extent, LogRules, measure, put_aside, shorten
from machine_lifecycle.system.tasks import in_daemon_thread

__all__ = ["LogKeeper", "Seen", "look_at"]

_INTERVAL = 5.0
_FIRST = 1.0
_SHORTEST = 0.2
_QUIET_LOOKS = 2
_DISK = "disk"
_LEAST_FREE = 64 << 20
_UNTOLD = 30.0  # between looks at quiet logs where the kernel can't tell of writes
_MODIFIED, _ONESHOT = 0x2, 0x80000000  # include/uapi/linux/inotify.h
_EVENT = struct.Struct("iIII")
_log = logging.getLogger(__name__)


class _FirstWrites:
    """Tells of the next write to a file, once. Linux; elsewhere it never tells."""

    def __init__(self, tell: Callable[[Path], None]) -> None:
        self._tell = tell
        self._paths: dict[int, Path] = {}
        self._handle = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle >= 0:
            asyncio.get_running_loop().add_reader(self._handle, self._read)

    def await_write(self, path: Path) -> bool:
        """Whether the next write will be told."""
        if self._handle < 0:
            return False
        mask = ctypes.c_uint32(_MODIFIED | _ONESHOT)
        watch = self._libc.inotify_add_watch(self._handle, os.fsencode(path), mask)
        if watch >= 0:
            self._paths[watch] = path
        return bool(watch >= 0)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._handle, 65536)
            place = 0
            while place < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, place)
                place += _EVENT.size + length
                if mask & _MODIFIED and (path := self._paths.pop(watch, None)):
                    self._tell(path)

    def close(self) -> None:
        if self._handle >= 0:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1


@attrs.define
class _Kept:
    """One log: its size at the last look, when that was, how many looks found no growth, and the
    seconds until the next one.
    """

    size: int
    looked: float
    wall: float
    quiet: int = 0
    held: int = 0
    rate: float = 0.0
    awaited: bool = False
    wait: float = _FIRST


@attrs.frozen
class Seen:
    """What a look found.

    Attributes:
        size: Of the log, in bytes; ``None`` if it can't be looked at.
        free: Bytes that are free on its disk, if that is known.
    """

    size: int | None
    free: int | None


class LogKeeper:
    """Keeps the logs of one supervisor within their bounds. Made on a running loop."""

    def __init__(
        self,
        rules: LogRules,
        on_alarm: Callable[[str], None],
        looks: Callable[[Sequence[Path]], Sequence[Seen]] | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            rules: How much is kept.
            on_alarm: Told in words what keeps logs from being written or put aside, and told an
                empty text when that is past.
            looks: Looks at logs; may hang as long as their file system does.
        """
        self._rules = rules
        self._on_alarm = on_alarm
        self._looks = looks or look_at
        self._looking: asyncio.Future[Sequence[Seen]] | None = None
        self._alarms: dict[str, str] = {}
        self._kept: dict[Path, _Kept] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._first_writes: _FirstWrites | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no log is looked at until the kernel tells of a write."""
        waiting = all(kept.awaited for kept in self._kept.values())
        return self._timer is None and self._looking is None and not self._tasks and waiting

    def begin(self, log: Path) -> int:
        """Before a process is started that writes to this log: put a long one aside, and watch.
        Where in the file its part begins.
        """
        try:
            extent = put_aside(log, self._rules)
        except OSError as error:
            self._tell(str(log), f"{log} can't be put aside: {error.strerror}")
            extent = measure(log)
        self._watch(log, extent)
        self._note(log, extent.size)
        return extent.size

    def watch(self, log: Path) -> None:
        """Keep this log, which a process has open, within its bounds from now on."""
        # How long it is now is noted when it has grown, as after any quiet time.
        self._watch(log, measure(log)).quiet = 1

    def _watch(self, log: Path, extent: Extent) -> _Kept:
        now = asyncio.get_running_loop().time()
        kept = _Kept(size=extent.size, held=extent.held, looked=now, wall=time.time())
        self._kept[log] = kept
        self._look_within(_FIRST)
        return kept

    def _note(self, log: Path, size: int, at: float | None = None) -> None:
        try:
            note(log, size, time.time() if at is None else at)
        except FileNotFoundError:
            return  # its folder is made with its process
        except OSError as error:
            self._tell(_DISK, f"{log.parent}: {error.strerror}")

    def _written(self, log: Path) -> None:
        """The first write after a quiet time."""
        kept = self._kept.get(log)
        if kept is not None and kept.awaited:
            kept.awaited, kept.quiet = False, 0
            kept.looked, kept.wall = asyncio.get_running_loop().time(), time.time()
            self._note(log, kept.size)
            self._look_within(_FIRST)

    def _look_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is not None and not self._timer.cancelled() and self._timer.when() <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        due = {log: kept for log, kept in self._kept.items() if not kept.awaited}
        if due and self._looking is None:  # else what is seen has us look again
            look = functools.partial(self._looks, [*due])
            self._looking = in_daemon_thread(look, name="look at logs")
            self._looking.add_done_callback(functools.partial(self._weigh, due))

    def _weigh(self, due: dict[Path, _Kept], answer: asyncio.Future[Sequence[Seen]]) -> None:
        self._looking = None
        if answer.cancelled():
            return
        for (log, kept), seen in zip(due.items(), answer.result(), strict=True):
            # One whose process began anew meanwhile, or that is no longer kept, is another.
            if self._kept.get(log) is kept and not kept.awaited:
                kept.wait = self._grown(log, kept, seen)
        waits = [kept.wait for kept in self._kept.values() if not kept.awaited]
        if waits:
            self._look_within(min(waits))

    def _grown(self, log: Path, kept: _Kept, seen: Seen) -> float:
        """Go by how much one log has grown; seconds until the next look, if the kernel will not
        tell before.
        """
        if seen.size is None:
            return _INTERVAL
        now, size = asyncio.get_running_loop().time(), seen.size
        grown = size - kept.size if size >= kept.size else size
        kept.rate = grown / max(0.001, now - kept.looked)
        if grown:
            if kept.quiet:  # it began to write after this, not evenly since the last mark
                self._note(log, kept.size, kept.wall)
            self._note(log, size)
            kept.quiet = 0
            kept.held += grown
            self._check(log, kept, seen.free)
        else:
            kept.quiet += 1
        kept.size, kept.looked, kept.wall = size, now, time.time()
        if kept.quiet >= _QUIET_LOOKS:
            return self._rest(log, kept)
        if not kept.rate or not self._rules.max_bytes or str(log) in self._alarms:
            return _INTERVAL
        left = max(0, self._rules.max_bytes - kept.held)
        return min(_INTERVAL, max(_SHORTEST, left / kept.rate / 2))

    def _rest(self, log: Path, kept: _Kept) -> float:
        if self._first_writes is None:
            self._first_writes = _FirstWrites(self._written)
        kept.awaited = self._first_writes.await_write(log)
        if not kept.awaited:
            return _UNTOLD
        if _size(log) != kept.size:  # between the look and the watch
            kept.awaited = False
        return _FIRST

    def _check(self, log: Path, kept: _Kept, free: int | None) -> None:
        low = free is not None and free < max(self._rules.max_bytes, _LEAST_FREE)
        where = f"only {(free or 0) >> 20} MiB are free on the disk of {log.parent}"
        self._tell(_DISK, where if low else "")
        due = self._rules.max_bytes and kept.held >= self._rules.max_bytes
        if (due or self._rules.max_age) and log not in self._tasks:
            task = asyncio.create_task(self._shorten(log, kept), name=f"shorten {log.name}")
            self._tasks[log] = task

    async def _shorten(self, log: Path, kept: _Kept) -> None:
        try:
            lossless = await asyncio.to_thread(shorten, log, self._rules)
            kept.held = measure(log).held
        except FileNotFoundError:
            return  # somebody removed it
        except OSError as error:
            self._tell(str(log), f"{log} can't be put aside: {error.strerror}")
        else:
            self._tell(str(log), "")
            if not lossless:
                _log.warning("%s was cut: this file system may lose lines by that", log)
        finally:
            self._tasks.pop(log, None)

    def _tell(self, cause: str, words: str) -> None:
        """What keeps logs from being kept, by cause; told when it is another."""
        if self._alarms.get(cause, "") != words:
            self._alarms[cause] = words
            self._alarms = {name: text for name, text in self._alarms.items() if text}
            self._on_alarm("; ".join(self._alarms.values()))

    def close(self) -> None:
        """Watch no log any more. A copy that is under way ends by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._looking is not None:
            self._looking.cancel()
        if self._first_writes is not None:
            self._first_writes.close()
            self._first_writes = None
        for task in self._tasks.values():
            task.cancel()
        for log, kept in self._kept.items():
            if _size(log) > kept.size:
                self._note(log, _size(log))
        self._kept.clear()


def look_at(logs: Sequence[Path]) -> list[Seen]:
    """Look at logs; returns when their file systems have answered."""
    free = {folder: _free(folder) for folder in {log.parent for log in logs}}
    return [Seen(_size_if_known(log), free[log.parent]) for log in logs]


def _size_if_known(log: Path) -> int | None:
    try:
        return _size(log)
    except OSError:
        return None


def _size(log: Path) -> int:
    try:
        return os.stat(log).st_size  # noqa: PTH116 - called for each log at each look
    except FileNotFoundError:
        return 0


def _free(folder: Path) -> int | None:
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize

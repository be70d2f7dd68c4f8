"""What comes of a download, on its way to the disk: written, hashed, told, cut if it stalls."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import attrs

from machine_lifecycle.installers.download_errors import DownloadDiffers, DownloadInterrupted
from machine_lifecycle.installers.errors import DiskFull
from machine_lifecycle.installers.partial_file import File, Partial
from machine_lifecycle.installers.space import fullest
from machine_lifecycle.installers.threads import to_the_end
from machine_lifecycle.model.text import human_bytes, human_seconds

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Course", "Patience", "Room", "broken", "flush", "pour"]

_CHUNK = 1 << 20


@attrs.frozen(kw_only=True)
class Patience:
    """How long is waited, in seconds, and how often.

    Attributes:
        connect: For a connection.
        silence: Without a byte; also the span over which the lowest speed is looked at.
        lowest: Bytes per second below which a download is cut and goes on anew, as git does.
        tries: Failures in a row without a byte between, until it is given up.
        first: Before the second try, at most; doubles each time.
        longest: Between two tries. A server that asks for more is told as such.
        report: Between two words of progress.
    """

    connect: float = 20.0
    silence: float = 30.0
    lowest: float = 1000.0
    tries: int = 4
    first: float = 0.5
    longest: float = 300.0
    report: float = 1.0


def broken(file: File, problem: str) -> DownloadInterrupted:
    """The error for a download that another try may finish."""
    return DownloadInterrupted(url=file.shown, problem=problem)


@attrs.define
class Course:
    """How far one download is; told now and then. Cuts one that hardly moves.

    Attributes:
        file: What is downloaded.
        have: Bytes that are there.
        total: Bytes of the whole; 0: nobody knows.
        patience: How slow it may be, and how often it is told.
        report: Takes a line, for people.
        came: Is told how many bytes came.
    """

    file: File
    have: int
    total: int
    patience: Patience
    report: Callable[[str], None]
    came: Callable[[int], None]
    _spoke: tuple[float, int] = attrs.field(init=False)
    _looked: tuple[float, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._spoke = self._looked = (time.monotonic(), self.have)

    def went_on(self, count: int) -> None:
        """So many bytes came.

        Raises:
            DownloadDiffers: More than the whole file, or than it may have.
            DownloadInterrupted: Hardly any over a while.
        """
        self.have += count
        self.came(count)
        now, patience = time.monotonic(), self.patience
        problem = self.file.too_large(self.have)
        if self.total and self.have > self.total:
            problem = f"more than its {self.total:,} bytes came"
        if problem:
            raise DownloadDiffers(url=self.file.shown, problem=problem)
        if now - self._looked[0] >= patience.silence:
            speed = self._speed(self._looked, now)
            if speed < patience.lowest:
                raise broken(self.file, f"hardly anything comes, {human_bytes(speed)}/s")
            self._looked = (now, self.have)
        if now - self._spoke[0] >= patience.report:
            self.report(self._words(self._speed(self._spoke, now)))
            self._spoke = (now, self.have)

    def _speed(self, since: tuple[float, int], now: float) -> float:
        return (self.have - since[1]) / (now - since[0]) if now > since[0] else 0.0

    def _words(self, speed: float) -> str:
        if not self.total:
            return f"{human_bytes(self.have)}, {human_bytes(speed)}/s"
        part = f"{human_bytes(self.have)} of {human_bytes(self.total)}"
        left = (self.total - self.have) / speed if speed else 0.0
        until = f", {human_seconds(left)} left" if left >= 1 else ""
        return f"{part}, {human_bytes(speed)}/s{until}"


async def pour(
    answer: aiohttp.ClientResponse, partial: Partial, digest: hashlib._Hash, course: Course
) -> None:
    """Write what comes, beside the event loop."""

    def take(file: IO[bytes], chunk: bytes) -> None:
        file.write(chunk)
        digest.update(chunk)

    with partial.open(course.have) as file:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            await to_the_end(take, file, chunk)
            course.went_on(len(chunk))


def flush(path: Path) -> None:
    """Have a file on disk, so that its name never stands for half of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Room:
    """What running downloads will still take of each disk."""

    def __init__(self) -> None:
        self._left: dict[Path, tuple[int, int]] = {}

    @contextmanager
    def claimed(self, path: Path, needed: int) -> Iterator[Callable[[int], None]]:
        """Around a download; what it yields is told the bytes that came.

        Raises:
            DiskFull: Others will take what it needs, or there is not as much.
        """
        device = path.parent.stat().st_dev
        claimed = sum(left for there, left in self._left.values() if there == device)
        free = shutil.disk_usage(path.parent).free
        if needed > free - claimed:
            folder, _ = fullest((path.parent,))
            raise DiskFull(folder=folder, free=max(0, free - claimed), needed=needed)
        self._left[path] = (device, needed)

        def came(count: int) -> None:
            self._left[path] = (device, max(0, self._left[path][1] - count))

        try:
            yield came
        finally:
            del self._left[path]

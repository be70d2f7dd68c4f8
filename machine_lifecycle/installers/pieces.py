"""A large file over several connections at once: each brings a piece, until there are none left.

One connection often gets a small share of what the line can carry. Pieces are written where they
belong; which of them are there is noted, so that an end in the middle costs those alone that were
under way. The digest follows behind, over what is whole from the beginning.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from machine_lifecycle.installers.credentials import Credentials
from machine_lifecycle.installers.download_errors import (
    DownloadInterrupted,
    DownloadMissing,
    DownloadRefused,
)
from machine_lifecycle.installers.http_request import Unreached, ask
from machine_lifecycle.installers.partial_file import Cut, File, Partial
from machine_lifecycle.installers.threads import to_the_end
from machine_lifecycle.installers.transfer import Course, broken, flush
from machine_lifecycle.model.text import human_seconds

if TYPE_CHECKING:
    import aiohttp

__all__ = ["PieceTransfer", "Pieces"]

_PARTIAL = 206
_ANOTHER = "it is another file by now"
"""What is told where the server's file changed while pieces of it came."""
_READ = 1 << 20
_WAIT_MAX = 8.0
"""Seconds between two tries of a piece at most, if its server does not ask for more."""


@attrs.frozen(kw_only=True)
class Pieces:
    """How a large file is cut.

    Attributes:
        connections: That bring it at once; 1: it is never cut.
        size: Bytes of a piece: what an end in the middle costs each connection at most.
        least: Bytes of a file from which on it is cut.
    """

    connections: int = 4
    size: int = 16 << 20
    least: int = 128 << 20

    def fit(self, headers: Mapping[str, str], total: int) -> bool:
        """Whether the file of an answer is to be cut, and its server hands out pieces of it."""
        strong = headers.get("ETag", "").startswith('"')
        ranges = headers.get("Accept-Ranges", "").lower() == "bytes"
        return self.connections > 1 and total >= self.least and strong and ranges


@attrs.define(kw_only=True)
class PieceTransfer:
    """Brings the pieces that lack.

    Attributes:
        session: Made by ``http_request.opened``.
        credentials: Address and secrets.
        file: What is downloaded.
        partial: Where it goes.
        cut: How it is cut, and which pieces are there.
        course: Is told what comes.
        connections: At once.
    """

    session: aiohttp.ClientSession
    credentials: Credentials
    file: File
    partial: Partial
    cut: Cut
    course: Course
    connections: int
    _where: str = attrs.field(init=False, default="")
    _lacking: deque[int] = attrs.field(init=False, factory=deque)
    _noting: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    _there: tuple[asyncio.Event, ...] = attrs.field(init=False, default=())

    async def run(self) -> hashlib._Hash:
        """Have all of it; its hash.

        Raises:
            DownloadInterrupted: One piece broke off too often, or the file is another one by now.
            LifecycleError: It is refused, or gone.
        """
        self._there = tuple(asyncio.Event() for _ in range(self.cut.count))
        for number in self.cut.done:
            self._there[number].set()
        self._lacking.extend(n for n in range(self.cut.count) if n not in self.cut.done)
        hashing = asyncio.create_task(self._hash())
        workers = [asyncio.create_task(self._work()) for _ in range(self.connections)]
        try:
            await asyncio.gather(*workers)
            return await hashing
        except FileNotFoundError:  # one piece found that out and removed what came
            raise broken(self.file, _ANOTHER) from None
        finally:
            for task in (*workers, hashing):
                task.cancel()
            await asyncio.gather(*workers, hashing, return_exceptions=True)

    async def _work(self) -> None:
        while self._lacking:
            number = self._lacking.popleft()
            piece = _Piece(*self.cut.span(number))
            try:
                await self._bring(piece)
            except DownloadInterrupted:
                # The next try fetches all of it.
                self.course.have -= piece.at - self.cut.span(number)[0]
                raise
            # Before the note: else a crash of the host could leave a note of bytes that are lost.
            await to_the_end(flush, self.partial.path)
            async with self._noting:
                self.cut.done.add(number)
                await to_the_end(self.partial.note_pieces, self.cut)
            self._there[number].set()

    async def _bring(self, piece: _Piece) -> None:
        """One piece; what came of it before a cut is not asked for again."""
        import aiohttp  # noqa: PLC0415 - heavy, and most boots download nothing

        patience = self.course.patience
        left, wait = patience.tries, patience.first
        while piece.at < piece.end:
            before = piece.at
            try:
                await self._part(piece)
                continue
            except DownloadInterrupted as error:
                problem = error
            except Unreached as error:
                problem = broken(self.file, f"{error.host}: {error}")
            except (aiohttp.ClientError, TimeoutError):
                problem = broken(self.file, "a connection was cut")
            if piece.at > before:
                left, wait = patience.tries, patience.first
            left -= 1
            if not left or self.partial.cut is None or problem.retry_after > patience.longest:
                raise problem
            pause = problem.retry_after or random.uniform(0, wait)  # noqa: S311 - no secret
            wait = min(wait * 2, _WAIT_MAX)
            self.course.report(f"a piece goes on in {human_seconds(pause)}: {problem.problem}")
            await asyncio.sleep(pause)

    async def _part(self, piece: _Piece) -> None:
        wanted = {
            "Range": f"bytes={piece.at}-{piece.end - 1}",
            "If-Range": self.partial.validator,
        }
        proved, known = bool(self.file.sha256), self._where
        try:
            async with ask(
                self.session, self.credentials, wanted, proved=proved, start=known
            ) as answer:
                self._where = str(answer.url)
                at = answer.headers.get("Content-Range", "").removeprefix("bytes ")
                if answer.status != _PARTIAL:
                    self.partial.forget()
                    raise broken(self.file, _ANOTHER)
                if not at.startswith(f"{piece.at}-"):
                    raise broken(self.file, "the server sends another part than was asked for")
                await self._pour(answer, piece)
        except (DownloadRefused, DownloadMissing):
            if not known:
                raise
            self._where = ""  # signed addresses of a storage expire: the next try gets a new one
            raise broken(self.file, "its address at the storage has ended") from None

    async def _pour(self, answer: aiohttp.ClientResponse, piece: _Piece) -> None:
        descriptor = os.open(self.partial.path, os.O_WRONLY)
        try:
            async for chunk in answer.content.iter_chunked(_READ):
                if piece.at + len(chunk) > piece.end:
                    raise broken(self.file, "more came than was asked for")
                await to_the_end(_write, descriptor, chunk, piece.at)
                piece.at += len(chunk)
                self.course.went_on(len(chunk))
        finally:
            os.close(descriptor)
        if piece.at < piece.end:
            raise broken(self.file, "the connection was closed too early")

    async def _hash(self) -> hashlib._Hash:
        digest = hashlib.sha256()
        for number, there in enumerate(self._there):
            await there.wait()
            start, end = self.cut.span(number)
            await asyncio.to_thread(_hash_span, self.partial.path, digest, start, end)
        return digest


@attrs.define
class _Piece:
    """A piece that is brought: how far it is, and where it ends."""

    at: int
    end: int


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _hash_span(path: Path, digest: hashlib._Hash, start: int, end: int) -> None:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (data := file.read(min(_READ, end - start))):
            digest.update(data)
            start += len(data)

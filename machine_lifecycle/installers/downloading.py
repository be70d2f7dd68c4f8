"""Downloading large files over HTTP so that nothing which came is fetched twice.

What comes goes into a partial file. It goes on where an earlier end cut it off, ``kill -9``
included, as long as the server still has the same file (``Range`` with ``If-Range``, RFC 9110).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.installers.credentials import Credentials
from machine_lifecycle.installers.download_errors import DownloadDiffers, DownloadInterrupted
from machine_lifecycle.installers.errors import DiskFull, HostDown
from machine_lifecycle.installers.http_request import Unreached, announced, ask, host_in, opened
from machine_lifecycle.installers.partial_file import Cut, File, Partial, hash_of
from machine_lifecycle.installers.pieces import Pieces, PieceTransfer
from machine_lifecycle.installers.space import fullest, ran_out
from machine_lifecycle.installers.transfer import Course, Patience, Room, broken, flush, pour
from machine_lifecycle.model.text import human_seconds

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Downloader"]

_PARTIAL, _UNSATISFIABLE = 206, 416
_RANGE = re.compile(r"bytes (?:(?P<at>\d+)-\d+|\*)/(?P<total>\d+)")
_WAIT_MAX = 8.0
"""Seconds between two tries of a download at most, if its server does not ask for more."""
_HOST_TRIES = 3
"""Connections in a row that a host may fail, whoever asked, until it counts as down."""


@attrs.define
class _Host:
    """What is known of one host, shared by all downloads from there."""

    not_before: float = 0.0
    unreached: int = 0
    problem: str = ""


class Downloader:
    """Downloads files. Several at once share what is known of their hosts, and the disk's room.

    Args:
        environ: The machine's environment: tokens, proxies, certificates.
        patience: How long is waited.
        mirrored: Gives the address where one is asked for instead.
        pieces: How large files are cut.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        patience: Patience | None = None,
        *,
        mirrored: Callable[[str], str] = str,
        pieces: Pieces | None = None,
    ) -> None:
        self._pieces = pieces or Pieces()
        self._environ = environ
        self._mirrored = mirrored
        self._patience = patience or Patience()
        self._hosts: defaultdict[str, _Host] = defaultdict(_Host)
        self._room = Room()

    async def bring(self, file: File, path: Path, report: Callable[[str], None]) -> str:
        """Have the whole file in the partial file *path*, checked and on disk; its SHA-256.

        Raises:
            DownloadInterrupted: It broke off too often; what came is kept.
            HostDown: Its host can't be reached.
            DownloadRefused: A login is wanted.
            DownloadMissing: There is no such file.
            DownloadDiffers: It is another file.
            DiskFull: There is no room for it.
        """
        partial = file.partial(path)
        host = self._hosts[urlsplit(self._credentials(file).start).netloc]
        patience = self._patience
        left, wait = patience.tries, patience.first
        while True:
            if (pause := host.not_before - time.monotonic()) > 0:
                report(f"its host asked to wait, {human_seconds(pause)} more")
                await asyncio.sleep(pause)
            before = partial.size
            try:
                return await self._try(file, partial, report)
            except DownloadInterrupted as error:
                if partial.size > before:
                    left, wait = patience.tries, patience.first
                left -= 1
                error.have = partial.size
                if not left or error.retry_after > patience.longest:
                    raise
                if error.retry_after:  # the server asks one download to wait, and means all
                    host.not_before = max(host.not_before, time.monotonic() + error.retry_after)
                    continue
                # Full jitter, so that many machines that lost one host do not come back as one.
                pause = random.uniform(0, wait)  # noqa: S311 - no secret is drawn
                wait = min(wait * 2, _WAIT_MAX)
                report(f"goes on in {human_seconds(pause)}: {error.problem}")
                await asyncio.sleep(pause)
            except OSError as error:
                if not ran_out(error):
                    raise
                partial.forget()  # a machine needs the room for its own files more than for this
                folder, free = fullest((path.parent,))
                raise DiskFull(folder=folder, free=free, needed=file.size) from error

    def _credentials(self, file: File) -> Credentials:
        return Credentials(self._mirrored(file.url), self._environ)

    async def _try(self, file: File, partial: Partial, report: Callable[[str], None]) -> str:
        have, cut = partial.size, partial.cut
        resumed = bool(have)
        if cut is None:
            digest = await hash_of(partial.path) if have else hashlib.sha256()
            if not have or have != file.size:  # else all of it came, and was not put in place
                resumed, digest = await self._rest(file, partial, have, digest, report)
            cut = partial.cut
        if cut is not None:
            digest = await self._in_pieces(file, partial, cut, report)
        return await _proved(file, partial, digest, resumed=resumed)

    async def _rest(
        self,
        file: File,
        partial: Partial,
        have: int,
        digest: hashlib._Hash,
        report: Callable[[str], None],
    ) -> tuple[bool, hashlib._Hash]:
        """Bring what is missing; whether what was there could be used, and the hash of all."""
        import aiohttp  # noqa: PLC0415 - heavy, and most boots download nothing

        patience = self._patience
        wanted = {"Range": f"bytes={have}-"} if have else {}
        if have and partial.validator:
            wanted["If-Range"] = partial.validator
        try:
            async with self._answer(file, wanted) as answer:
                at, total = _part(file, answer, have)
                if answer.status == _UNSATISFIABLE and total == have:
                    return True, digest
                if answer.status == _UNSATISFIABLE:
                    partial.forget()
                    raise broken(file, "the server has less of it than came before")
                if not at and self._pieces.fit(answer.headers, total):
                    with self._room.claimed(partial.path, total):
                        partial.start_pieces(answer.headers, Cut(total, self._pieces.size))
                    return False, digest
                if not at:
                    partial.start(answer.headers)
                    digest = hashlib.sha256()
                with self._room.claimed(partial.path, max(0, total - at)) as came:
                    course = Course(file, at, total, patience, report, came)
                    await pour(answer, partial, digest, course)
                if total and course.have != total:
                    raise broken(file, "the connection was closed too early")
                return bool(at), digest
        except (aiohttp.ClientError, TimeoutError) as error:
            # The error's own text may hold the whole address, with what is secret in it.
            silent = isinstance(error, TimeoutError)
            words = f"nothing came for {human_seconds(patience.silence)}" if silent else ""
            told = str(getattr(error, "os_error", "") or "")
            raise broken(file, words or told or "the connection was cut") from None

    async def _in_pieces(
        self, file: File, partial: Partial, cut: Cut, report: Callable[[str], None]
    ) -> hashlib._Hash:
        """Bring the pieces that are missing; the hash of all."""
        if file.size and cut.total != file.size:
            partial.forget()
            raise broken(file, "what came before was cut from a file of another size")
        patience, have = self._patience, partial.size
        async with opened(
            self._environ, connect=patience.connect, silence=patience.silence
        ) as session:
            with self._room.claimed(partial.path, cut.total - have) as came:
                transfer = PieceTransfer(
                    session=session,
                    credentials=self._credentials(file),
                    file=file,
                    partial=partial,
                    cut=cut,
                    course=Course(file, have, cut.total, patience, report, came),
                    connections=self._pieces.connections,
                )
                return await transfer.run()

    async def announced(self, file: File) -> tuple[str, int]:
        """SHA-256 and size as the server tells them without sending the file; empty and 0: not so.

        Raises:
            DownloadInterrupted: There is no answer now.
            DownloadRefused: A login is wanted.
            DownloadMissing: There is no such file.
        """
        patience = self._patience
        async with opened(
            self._environ, connect=patience.connect, silence=patience.silence
        ) as session:
            try:
                return await announced(session, self._credentials(file))
            except Unreached as error:
                raise broken(file, f"{error.host}: {error}") from None

    def _down(self, host: str, file: File) -> HostDown:
        return HostDown(host=host, url=file.shown, problem=self._hosts[host].problem)

    @asynccontextmanager
    async def _answer(
        self, file: File, wanted: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The server's answer. Whether its host can be reached is then known to all."""
        credentials = self._credentials(file)
        start = urlsplit(credentials.start).netloc
        if self._hosts[start].unreached >= _HOST_TRIES:
            raise self._down(start, file)
        patience = self._patience
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                opened(self._environ, connect=patience.connect, silence=patience.silence)
            )
            try:
                answer = await stack.enter_async_context(
                    ask(session, credentials, wanted, proved=bool(file.sha256))
                )
            except Unreached as error:
                host = self._hosts[error.host]
                host.unreached, host.problem = host.unreached + 1, str(error)
                if host.unreached >= _HOST_TRIES:
                    raise self._down(error.host, file) from None
                raise broken(file, f"{error.host}: {error}") from None
            # Both answered: the one that was asked, and the storage that it sent on to.
            for reached in (start, host_in(str(answer.url))):
                self._hosts[reached].unreached = 0
            yield answer


def _part(file: File, answer: aiohttp.ClientResponse, have: int) -> tuple[int, int]:
    """Where in the file an answer begins, and the size of the whole; 0 if nobody says.

    Raises:
        DownloadDiffers: The size is another than the list says, or more than it may have.
        DownloadInterrupted: It begins elsewhere than asked.
    """
    at, total = 0, int(answer.headers.get("Content-Length", 0))
    if answer.status in {_PARTIAL, _UNSATISFIABLE}:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        at, total = (int(found["at"] or 0), int(found["total"])) if found else (0, 0)
        if answer.status == _PARTIAL and at != have:
            raise broken(file, "the server sends another part than was asked for")
    problem = file.too_large(total)
    if file.size and total and total != file.size:
        problem = f"it has {total:,} bytes, not {file.size:,}"
    if problem:
        raise DownloadDiffers(url=file.shown, problem=problem)
    return at, total or file.size


async def _proved(file: File, partial: Partial, digest: hashlib._Hash, *, resumed: bool) -> str:
    """The digest of the whole file, if it is that of the list; it is on disk then."""
    found = digest.hexdigest()
    if file.sha256 and found != file.sha256:
        partial.forget()
        if resumed:
            raise broken(file, "what came before was the beginning of another file")
        problem = f"its SHA-256 is {found}, not {file.sha256}"
        raise DownloadDiffers(url=file.shown, problem=problem)
    await asyncio.to_thread(flush, partial.path)
    return found

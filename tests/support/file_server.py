"""A web server with large files and bad habits: cuts, refusals, redirects, no ranges."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import attrs
from aiohttp import web

__all__ = ["FileServer", "Served", "serving_files", "serving_in_a_thread"]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@attrs.define
class Served:
    """A file, and how it is handed out.

    Attributes:
        data: Its bytes.
        cuts: After how many bytes of its body each answer is cut, one after the other.
        arrived: Waits until so many bytes of it arrived, before each cut; else some may be lost.
        answers: Status and headers that are given first, one after the other, instead of it.
        ranges: Whether a part can be asked for.
        length: Whether the size is told.
        login: What ``Authorization`` must say; empty: nothing.
        kind: ``Content-Type``.
        tag: ``ETag``; empty: none, and no date either.
        stall: Set: bodies stop after their first half until it is set by the test.
        halt: Whether they stop there until the server is told to go on, from any thread.
    """

    data: bytes
    cuts: list[int] = attrs.field(factory=list)
    arrived: Callable[[int], Awaitable[None]] | None = None
    answers: list[tuple[int, dict[str, str]]] = attrs.field(factory=list)
    ranges: bool = True
    length: bool = True
    login: str = ""
    kind: str = "application/octet-stream"
    tag: str = '"1"'
    stall: asyncio.Event | None = None
    halt: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@attrs.define
class FileServer:
    """Files by path, and all that was asked.

    Attributes:
        crowd: How many answers must be open at once before any of them ends; 0: none.
        crowded: Set when as many are.
        halted: Set when a body has stopped.
    """

    port: int = 0
    host: str = "127.0.0.1"
    files: dict[str, Served] = attrs.field(factory=dict)
    asked: list[tuple[str, dict[str, str]]] = attrs.field(factory=list)
    sent: int = 0
    at_once: int = 0
    most_at_once: int = 0
    crowd: int = 0
    crowded: asyncio.Event = attrs.field(factory=asyncio.Event)
    halted: threading.Event = attrs.field(factory=threading.Event)
    _released: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = attrs.field(init=False, default=None)

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}/{path}"

    def add(self, path: str, data: bytes, **more: object) -> Served:
        self.files[path] = served = Served(data)
        for name, value in more.items():
            setattr(served, name, value)
        return served

    def go_on(self) -> None:
        """Let bodies that have stopped go on, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._released.set)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.lstrip("/")
        self.asked.append((path, dict(request.headers)))
        served = self.files.get(path)
        if served is None:
            return web.Response(status=404)
        if served.answers:
            status, headers = served.answers.pop(0)
            return web.Response(status=status, headers=headers)
        if served.login and request.headers.get("Authorization") != served.login:
            return web.Response(status=401)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once >= self.crowd:
            self.crowded.set()
        try:
            return await self._file(request, served)
        finally:
            self.at_once -= 1

    async def _file(self, request: web.Request, served: Served) -> web.StreamResponse:
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        same = request.headers.get("If-Range", served.tag) == served.tag
        part = bool(wanted and served.ranges and same)
        at = int(wanted[1]) if part and wanted else 0
        whole = len(served.data)
        if at >= whole > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{whole}"})
        response = web.StreamResponse(status=206 if part else 200)
        response.content_type = served.kind
        if served.tag:
            response.headers["ETag"] = served.tag
        if served.ranges:
            response.headers["Accept-Ranges"] = "bytes"
        end = int(wanted[2]) + 1 if part and wanted and wanted[2] else whole
        if part:
            response.headers["Content-Range"] = f"bytes {at}-{end - 1}/{whole}"
        body = served.data[at:end]
        if served.length:
            response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if served.cuts:
            await self._cut(request, response, served, at)
            return response
        half = len(body) // 2
        await self._write(response, body[:half])
        await self.crowded.wait()
        if served.stall is not None:
            await served.stall.wait()
        if served.halt:
            self.halted.set()
            await self._released.wait()
        await self._write(response, body[half:])
        await response.write_eof()
        return response

    async def _cut(
        self, request: web.Request, response: web.StreamResponse, served: Served, at: int
    ) -> None:
        end = at + served.cuts.pop(0)
        await self._write(response, served.data[at:end])
        if served.arrived:
            await served.arrived(end)
        assert request.transport is not None
        request.transport.close()

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)
        self.sent += len(data)


@contextlib.asynccontextmanager
async def serving_files(
    host: str = "127.0.0.1", tls: tuple[Path, Path] | None = None, port: int = 0
) -> AsyncIterator[FileServer]:
    """Serve files over loopback.

    Args:
        host: Address.
        tls: Certificate and key; None: plain HTTP.
        port: Where; 0: any that is free.
    """
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    served = FileServer(host=host)
    served._loop = asyncio.get_running_loop()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context)
    await site.start()
    served.port = runner.addresses[0][1]
    try:
        yield served
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def serving_in_a_thread() -> Iterator[FileServer]:
    """The same for a test that waits without an event loop of its own."""
    ready, end = threading.Event(), asyncio.Event()
    found: list[FileServer] = []

    async def serve() -> None:
        async with serving_files() as served:
            found.append(served)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    (server,) = found
    try:
        yield server
    finally:
        server.go_on()
        assert server._loop is not None
        server._loop.call_soon_threadsafe(end.set)
        thread.join()

"""A TCP address in front of a server's socket, in a thread: with TLS, and with faults by order."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path

from tests.support.patience import PATIENCE

__all__ = ["Front"]


class Front:
    """Hands on what comes, both ways.

    Attributes:
        port: On 127.0.0.1.
        lost: Answers that hold this are lost, and the connection breaks; empty: none are.
    """

    def __init__(
        self, target: Path, *, tls: tuple[Path, Path] | None = None, pace: float = 0
    ) -> None:
        """Listen at once.

        Args:
            target: The server's socket.
            tls: Certificate and key; None: plain TCP.
            pace: Bytes a second, each way; 0: as fast as they come.
        """
        self.lost: bytes = b""
        self._target = target
        self._pace = pace
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.mend()

    def cut(self) -> None:
        """Break every connection and take no further ones."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(PATIENCE)

    def mend(self) -> None:
        """Take connections again, at the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE)

    def lead_to(self, target: Path) -> None:
        """Hand on what comes over further connections to another server."""
        self._target = target

    def close(self) -> None:
        """End it."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server:
            self._server.close()
        for writer in [each for pair in self._serving.values() for each in pair]:
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(tuple(self._serving))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._serving[task] = (writer,)
        try:
            with contextlib.suppress(OSError):
                inner, outer = await asyncio.open_unix_connection(str(self._target))
                self._serving[task] = (writer, outer)
                await asyncio.gather(
                    self._hand_on(reader, outer), self._hand_on(inner, writer, answers=True)
                )
        finally:
            del self._serving[task]
            writer.transport.abort()

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        try:
            while data := await reader.read(65536):
                if answers and self.lost and self.lost in data:
                    return
                writer.write(data)
                await writer.drain()
                if self._pace:
                    await asyncio.sleep(len(data) / self._pace)
        finally:
            writer.transport.abort()
